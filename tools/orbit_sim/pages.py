"""The few HTML pages, as long as ORBIT's where a capture says how long."""


def padded(html, size):
    """Blank space makes a page as long as the real one."""
    return html + b" " * (size - len(html) - 1) + b"\n" if len(html) < size else html


LOGIN = padded(b"<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>ORBIT Admin Panel</title></head>\n"
               b"<body><form method=\"post\" action=\"/admin/login\"><input name=\"username\"><input name=\"password\" "
               b"type=\"password\"><button>Sign in</button></form></body>\n</html>\n", 8584)
DOCS = b"<!DOCTYPE html>\n<html><head><title>ORBIT</title></head><body>See /openapi.json.</body></html>\n"
