"""What a user may say: options, settings and the rules between them."""
