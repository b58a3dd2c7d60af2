"""Two small classifiers of handwritten digits, and what the service says about their losses."""
