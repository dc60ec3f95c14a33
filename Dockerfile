# The exporter as an image: nothing but Python, the locked dependencies and the exporter, run by an unprivileged user.
# The base is that of one day, for every architecture, whatever its tag names later: CONTRIBUTING.md says how to renew
# it. Any image with Python 3.11 serves: docker build --build-arg BASE=... .
ARG BASE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE} AS build
# Set these to build without a package registry: docker build --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=...
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
# Extras that sources need, such as EXTRAS=redis,kafka,sql,arrow; each makes the image larger.
ARG EXTRAS
# Nothing is installed but what has the hash that the two locks name; no time stamp goes into the result.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints-build.txt constraints-product.txt pyproject.toml hatch_build.py README.md LICENSE ./
COPY exporter ./exporter
# What `mlops-exporter bundle` writes.
COPY prometheus ./prometheus
COPY alertmanager ./alertmanager
COPY grafana/dashboards ./grafana/dashboards
COPY docs/runbooks ./docs/runbooks
RUN python3 -m venv --without-pip /opt/mlops-exporter \
    && python3 -m venv --without-pip /opt/build \
    && python3 -m pip --python /opt/build/bin/python3 install --require-hashes --requirement constraints-build.txt \
    && /opt/build/bin/python3 -m hatchling build --target wheel --directory /dist \
    && wheel="$(echo /dist/*.whl)" \
    && sha256sum "$wheel" >/dist/sum && read -r hash _ </dist/sum \
    && echo "mlops-exporter${EXTRAS:+[$EXTRAS]} @ file://$wheel --hash=sha256:$hash" \
        >/dist/requirements.txt \
    && python3 -m pip --python /opt/mlops-exporter/bin/python3 install --no-compile --require-hashes \
        --requirement /dist/requirements.txt --constraint constraints-product.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/mlops-exporter/lib

FROM ${BASE}
COPY --from=build /opt/mlops-exporter /opt/mlops-exporter
RUN install --directory --owner=10042 --group=10042 --mode=0750 /var/lib/mlops-exporter
USER 10042:10042
ENV PATH=/opt/mlops-exporter/bin:$PATH
EXPOSE 10042
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s CMD ["mlops-exporter", "healthcheck"]
ENTRYPOINT ["mlops-exporter"]
CMD ["run", "--config.file=/etc/mlops-exporter/mlops-exporter.yml"]
