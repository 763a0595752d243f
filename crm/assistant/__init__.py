"""The bot: it answers from articles and from what is on record of whoever asks, and hands over to people.

Where there is a language model it writes the answer; what it may say is checked here, and without it, or when it
fails, rules answer.
"""
