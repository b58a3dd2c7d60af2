"""The same loss behind other servers; each module runs in an environment of its own."""
