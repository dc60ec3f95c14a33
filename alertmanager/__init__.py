"""The Alertmanager configuration, and where its messages can be tried out."""
