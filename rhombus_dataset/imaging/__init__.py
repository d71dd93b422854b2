"""Images: decode, measure, mask, compare and draw. The only folder that imports the codec libraries."""
