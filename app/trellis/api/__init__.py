"""HTTP. Flask lives here only. A view parses, calls one service, presents."""
