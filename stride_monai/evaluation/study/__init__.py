"""The evaluation of slides, topic by topic: numbers, tables, figures and what is said of them, each in one place."""
