"""What the project is made of: known vulnerabilities of its packages, and their licences."""
