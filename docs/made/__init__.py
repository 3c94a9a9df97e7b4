"""What the scripts ``docs/make_*.py`` share: tables of Markdown, what docstrings say, and how pictures look."""
