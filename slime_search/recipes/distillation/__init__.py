"""What a teacher thinks of each token that the student wrote, whichever tokenizer the teacher has."""
