"""Where every text that was ever written is kept."""
