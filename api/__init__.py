"""What people and programs see: the HTTP API, the web pages, and the commands that talk to a server."""
