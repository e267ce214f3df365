"""Request and answer bodies as pydantic classes: the OpenAPI document is made of them."""
