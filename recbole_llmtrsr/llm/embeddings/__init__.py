"""Text embeddings, and the files that cache them."""
