"""MiniLM, the sentence encoder that ships, and the export that other lines put their heads on."""
