"""RecBole models on language models, with their losses."""
