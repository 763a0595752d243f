"""Customer care: what people are asked, and what is done for them."""
