"""What a fit is trained on: examples, features of a frozen encoder, splits."""
