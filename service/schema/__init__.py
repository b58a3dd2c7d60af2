"""Request and answer documents, for validation and for the OpenAPI document."""
