"""What each task does, in NumPy: pixels and text to tensors, tensors through a runtime, tensors to answers."""
