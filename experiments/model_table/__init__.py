"""The paper's four models and a fifth, trained and compared."""
