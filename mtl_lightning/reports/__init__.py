"""Views of facts: terminal, pages and plots. They compute no facts."""
