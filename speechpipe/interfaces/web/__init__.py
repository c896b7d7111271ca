"""Web pages: templates, static files, and the code that renders them."""
