"""Where events come from: one file per transport, behind the interface in `base`."""
