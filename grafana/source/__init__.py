"""What the dashboards are made from: one file per dashboard."""
