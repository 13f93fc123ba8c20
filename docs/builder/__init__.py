"""Build the documentation: `python -m docs.builder site OUT`, and `python -m docs.builder collect RUN...`."""
