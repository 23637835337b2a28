"""What can be wrong with a shard, or a clip that is to go into one. Each message names file or clip, and the remedy."""


class ShardError(RuntimeError):
    """The bytes in a shard, or those that are to be stored in it, are not what was promised of them."""


class RenditionError(RuntimeError):
    """A clip cannot be brought into a rendition: it cannot be read now, or what came out is not as promised."""
