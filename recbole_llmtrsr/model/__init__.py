"""RecBole models on language models, and their losses."""
