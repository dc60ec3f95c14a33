#!/bin/sh
# The stack of docker-compose.yml without containers: the demonstration, Prometheus, Alertmanager and Grafana, as far
# as they are installed (Debian: prometheus, prometheus-alertmanager; Grafana from its own repository). Ctrl-C stops it.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
exporter=127.0.0.1:${EXPORTER_PORT:-10042}
prometheus=127.0.0.1:${PROMETHEUS_PORT:-9090}
alertmanager=127.0.0.1:${ALERTMANAGER_PORT:-9093}
retraining=127.0.0.1:${RETRAINING_PORT:-10043}
notifications=127.0.0.1:${NOTIFICATIONS_PORT:-9095}
grafana_port=${GRAFANA_PORT:-3000}

work=$(mktemp -d)
started=""
stop() {
    trap - EXIT INT TERM
    # shellcheck disable=SC2086
    [ -z "$started" ] || kill $started 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 0' INT TERM

start() { # name, then the command; its output goes to a file that is shown when it ends early
    name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    started="$started $!"
}
installed() {
    command -v "$1" >/dev/null && return
    echo "not installed, left out: $1" >&2
    return 1
}

start exporter "$python" -m mlops_exporter demo --web.listen-address="$exporter"
echo "exporter      http://$exporter"

# The receiver of retraining, in dry run, with a token of its own.
"$python" -c "import secrets; print(secrets.token_hex(32))" >"$work/retraining_token"
sed -e "s#/run/secrets#$work#" -e "s#/var/lib/mlops-exporter#$work/retraining#" \
    retraining/retrain.yml >"$work/retrain.yml"
start retraining "$python" -m mlops_exporter retrain --config.file="$work/retrain.yml" \
    --web.listen-address="$retraining"
echo "Retraining    http://$retraining/metrics"

start notifications "$python" alertmanager/sink.py "$notifications"
echo "notifications http://$notifications"

if installed prometheus-alertmanager; then
    # The configuration with every receiver's messages sent to that page: no secret is needed, nothing leaves.
    cp -R alertmanager "$work/config"
    sed -e "s/notifications:9095/$notifications/" -e "s/retraining:10043/$retraining/" \
        -e "s#/run/secrets/retraining_token#$work/retraining_token#" alertmanager/stack.yml >"$work/config/stack.yml"
    start alertmanager prometheus-alertmanager --config.file="$work/config/stack.yml" \
        --storage.path="$work/alertmanager" --cluster.listen-address= --web.listen-address="$alertmanager"
    echo "Alertmanager  http://$alertmanager"
fi

if installed prometheus; then
    # The same configuration, with addresses in place of the names that containers have for each other.
    cp -R prometheus "$work/prometheus"
    sed -e "s/mlops-exporter:10042/$exporter/" -e "s/alertmanager:9093/$alertmanager/" \
        -e "s/retraining:10043/$retraining/" \
        -e "s/localhost:9090/$prometheus/" prometheus/prometheus.yml >"$work/prometheus/prometheus.yml"
    start prometheus prometheus --config.file="$work/prometheus/prometheus.yml" \
        --storage.tsdb.path="$work/data" --web.listen-address="$prometheus" \
        --rules.alert.for-grace-period=30s # or a restart would take back what fires, and page again
    echo "Prometheus    http://$prometheus"
fi

if installed grafana-server; then
    home=$(dirname "$(dirname "$(readlink -f "$(command -v grafana-server)")")")
    [ -d /usr/share/grafana ] && home=/usr/share/grafana
    start grafana env PROMETHEUS_URL="http://$prometheus" ALERTMANAGER_URL="http://$alertmanager" \
        DASHBOARDS_PATH="$PWD/grafana/dashboards" \
        GF_PATHS_DATA="$work/grafana" GF_PATHS_LOGS="$work/grafana" GF_PATHS_PROVISIONING="$PWD/grafana/provisioning" \
        GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT="$grafana_port" \
        GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION=true \
        GF_AUTH_ANONYMOUS_ENABLED=true GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer \
        GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="$PWD/grafana/dashboards/mlops-models.json" \
        GF_ANALYTICS_REPORTING_ENABLED=false GF_PLUGINS_PREINSTALL_DISABLED=true \
        grafana-server --homepath "$home"
    echo "Grafana       http://127.0.0.1:$grafana_port"
fi

echo "Ctrl-C stops everything."
while :; do
    for process in $started; do
        if ! kill -0 "$process" 2>/dev/null; then
            echo "a part of the stack ended:" >&2
            tail -n 3 "$work"/*.log >&2
            exit 1
        fi
    done
    sleep 1
done
