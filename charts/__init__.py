"""The Helm chart, made from the same tables as the bundle: rules and dashboards are links to them."""
