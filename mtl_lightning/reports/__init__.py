"""Views of facts: terminal, pages and pictures. They compute none."""
