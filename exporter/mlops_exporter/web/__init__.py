"""HTTP: routes, content negotiation, the landing page and the server."""
