"""Pictures to boxes: closed sets of classes, labels and examples of a request, phrases of a caption."""
