"""The default places for attention in any network, by its traced graph."""

from collections.abc import Collection, Iterator

from cbam_keras import _graph
from cbam_keras._graph import Graph, Step


def default_places(graph: Graph, repeated: Collection[int]) -> list[Step]:
    """Returns the steps after which attention goes by default.

    In a residual network these are the ends of its branches, otherwise the
    last layer at each resolution. `repeated` are ids of operations that are
    called at several places, before which attention goes.
    """
    places = list(_ResidualNetwork(graph, repeated).branch_ends())
    places = places or _graph.last_at_each_resolution(graph, repeated)
    return sorted(set(places), key=graph.order.__getitem__)


class _ResidualNetwork:
    """A graph, asked where its residual branches end."""

    def __init__(self, graph, repeated):
        self.graph = graph
        self.repeated = repeated
        self.outputs = {id(x) for x in graph.outputs}

    def branch_ends(self) -> Iterator[Step]:
        """Yields the last step of each residual branch."""
        for step in self.graph.steps:
            if step.kind not in _graph.ADDITIONS or len(step.inputs) < 2:
                continue
            users = self.graph.users(step.outputs[0])
            if users and all(user.kind == "Concatenate" for user in users):
                # A sum within a cell, e.g. of NASNet, not the end of a block.
                continue
            region = self._region(step)
            if region is not None and not self._descends(step, region):
                yield from self._branches(step, region)

    def _region(self, addition):
        """Returns the steps of a block that ends with an addition, if any."""
        front = {id(x): x for x in addition.inputs}
        region = set()
        while len(front) > 1:
            makers = map(self.graph.maker, front.values())
            step = max(makers, key=self.graph.order.__getitem__)
            if step is None:
                # The branches join only at inputs of the model.
                return None
            region.add(step)
            for x in step.outputs:
                front.pop(id(x), None)
            front.update((id(x), x) for x in step.inputs)
        for step in region:
            for x in step.outputs:
                outside = {*self.graph.users(x)} - region - {addition}
                if outside or id(x) in self.outputs:
                    return None
        return region

    def _descends(self, addition, region):
        """Returns whether a region has convolutions at a lower resolution.

        Then it has the levels of a feature pyramid or an hourglass network.
        """
        full = self.graph.sizes(addition.outputs[0])
        convolutions = [step for step in region if step.convolves]
        sizes = [self.graph.sizes(step.outputs[0]) for step in convolutions]
        return any(
            len(size) == len(full)
            and max(size, default=1) > 1
            and _graph.is_coarser(size, full)
            for size in sizes
        )

    def _branches(self, addition, region):
        """Yields the ends of the branches, of more convolutions than one."""
        sides = [
            (x, sum(y.convolves for y in self.graph.ancestors(x) & region))
            for x in addition.inputs
        ]
        fewest = min(count for _, count in sides)
        branches = [x for x, count in sides if count > fewest]
        # The shortcut is the input of the block or a projection of it.
        if fewest > 1 or len(branches) != len(sides) - 1:
            return
        for x in branches:
            step = self.graph.maker(x)
            # The end is before any stochastic depth and layer scale.
            while len(step.inputs) == 1 and (
                id(step.operation) in self.repeated or _graph.only_adjusts(step)
            ):
                step = self.graph.maker(step.inputs[0])
            if _graph.is_feature_map(step.outputs[0]):
                yield step
