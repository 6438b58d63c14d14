"""From the cells of a bag to the slide: slide heads, classifiers, SWIFT's student."""
