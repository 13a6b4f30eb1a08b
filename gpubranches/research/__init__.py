"""Research on the product: the quality of answers, the value of codes, engines side by side. The product does not import it."""
