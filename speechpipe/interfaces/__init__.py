"""How people and programs reach speechpipe: HTTP and websockets, the command line, pages."""
