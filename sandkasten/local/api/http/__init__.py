"""Requests and answers of HTTP: what ASGI leaves to an application."""
