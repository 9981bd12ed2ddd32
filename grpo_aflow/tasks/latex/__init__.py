"""Mathematics as LaTeX: parsed whole or not at all (`reader`), compared by value (`equality`)."""
