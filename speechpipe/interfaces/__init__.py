"""Interfaces for users and programs: HTTP and websockets, the command line, web pages."""
