"""The HTTP and websocket interface: it translates requests of the supported protocols, and renders the results."""
