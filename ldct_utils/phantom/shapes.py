"""Smooth random fields, signed distances, vessel trees, and the canvas on which a slice is drawn."""

import numpy as np

from ldct_utils.phantom.organs import LABELS


class Waves:
    """Gaussian random field of unit variance: plane waves, so that any slice of it is drawn without its neighbours.

    ``scale_mm`` is the correlation length l in exp(-r^2 / 2 l^2).
    """

    def __init__(self, rng, scale_mm, count=60):
        self.k = rng.normal(size=(3, count)) / np.broadcast_to(scale_mm, 3)[:, None]
        self.phase = rng.uniform(0, 2 * np.pi, count)

    def at(self, x, y, z):
        """Field on the grid of x (W,) and y (H,) at height z, all mm: (H, W) float32."""
        kx, ky, kz = self.k
        rows = np.exp(1j * (np.outer(y, ky) + kz * z + self.phase)).astype(np.complex64)
        columns = np.exp(1j * np.outer(kx, x)).astype(np.complex64)
        scale = np.float32(np.sqrt(2 / len(kx)))
        return (rows.real @ columns.real - rows.imag @ columns.imag) * scale


def ellipsoid(x, y, z, centre, radii, turn=0.0):
    """Signed distance (mm, negative inside, first order) to an ellipsoid turned by ``turn`` radians about z."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    if turn:
        dx, dy = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    a, b, c = radii
    u, v, w = dx / a, dy / b, dz / c
    q = np.sqrt(u * u + v * v + w * w) + 1e-6
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2) + 1e-6
    return q * (q - 1) / slope


def tube(x, y, z, start, end, r0, r1=None):
    """Signed distance to a round-ended tube from ``start`` to ``end``, whose radius goes from r0 to r1, mm."""
    r1 = r0 if r1 is None else r1
    p, d = np.asarray(start, float), np.subtract(end, start).astype(float)
    dx, dy, dz = x - p[0], y - p[1], z - p[2]
    t = np.clip((dx * d[0] + dy * d[1] + dz * d[2]) / max(d @ d, 1e-9), 0, 1)
    return np.sqrt((dx - t * d[0]) ** 2 + (dy - t * d[1]) ** 2 + (dz - t * d[2]) ** 2) - (r0 + t * (r1 - r0))


def inside(rng, count, centre, radii):
    """``count`` points uniform in an ellipsoid, mm."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.asarray(centre) + direction * rng.uniform(0, 1, (count, 1)) ** (1 / 3) * np.asarray(radii)


def smooth_min(a, b, k):
    """Union of two distances, rounded over ``k`` mm where they meet."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return b + (a - b) * h - k * h * (1 - h)


def tree(root, points, leaf_mm, balance=0.4, murray=2.7):
    """Vessel tree through all points: each point, from near to far, joins where path and detour are shortest.

    Args:
        root: (3,) mm. points: (N, 3) mm. leaf_mm: radius of the ends.
        balance: weight of the path to the root; 0 gives the minimum spanning tree.
        murray: a parent's radius to this power is the sum of its children's.
    Returns: segments (N, 8): start xyz, end xyz, both radii, mm.
    Source: Cuntz et al. 2010, PLoS Comput Biol 6:e1000877 (greedy tree); Murray 1926 (radii).
    """
    points = np.asarray(points)[np.argsort(np.linalg.norm(np.asarray(points) - root, axis=1))]
    nodes = np.vstack([root, points])
    path, parent = np.zeros(len(nodes)), np.zeros(len(nodes), int)
    for i in range(1, len(nodes)):
        step = np.linalg.norm(nodes[:i] - nodes[i], axis=1)
        parent[i] = np.argmin(step + balance * path[:i])
        path[i] = path[parent[i]] + step[parent[i]]
    power = np.full(len(nodes), 0.0)
    has_child = np.zeros(len(nodes), bool)
    has_child[parent[1:]] = True
    power[~has_child] = leaf_mm**murray
    for i in range(len(nodes) - 1, 0, -1):  # children come after their parent
        power[parent[i]] += power[i]
    radius = power ** (1 / murray)
    start = np.minimum(radius[parent[1:]], 1.3 * radius[1:])
    return np.column_stack([nodes[parent[1:]], nodes[1:], start, radius[1:]])


class Canvas:
    """One slice being drawn: HU and organ labels on a grid of mm coordinates, bent a little by ``bend``.

    Structures are painted over each other; a pixel on an edge is mixed by how far the edge is (partial volume).
    """

    def __init__(self, shape, pixel_mm, z, bend=None):
        height, width = shape
        self.pixel_mm, self.z = pixel_mm, z
        self.gx = ((np.arange(width) - (width - 1) / 2) * pixel_mm).astype(np.float32)
        self.gy = ((np.arange(height) - (height - 1) / 2) * pixel_mm).astype(np.float32)
        self.x = np.broadcast_to(self.gx, shape)
        self.y = np.broadcast_to(self.gy[:, None], shape)
        for amplitude, along_x, along_y in bend or ():
            self.x = self.x + np.float32(amplitude) * along_x.at(self.gx, self.gy, z)
            self.y = self.y + np.float32(amplitude) * along_y.at(self.gx, self.gy, z)
        self.hu = np.full(shape, -1000, np.float32)
        self.label = np.zeros(shape, np.uint8)
        self.whole = (slice(0, height), slice(0, width))

    def waves(self, waves):
        return waves.at(self.gx, self.gy, self.z)

    def box(self, x, y, reach):
        """Slices of the grid within ``reach`` mm of (x, y), with room for the bending."""
        room = reach + 14
        return tuple(
            slice(max(int(np.searchsorted(grid, at - room)), 0), int(np.searchsorted(grid, at + room)))
            for grid, at in ((self.gy, y), (self.gx, x))
        )

    def paint(self, distance, hu, organ=None, box=None, edge_mm=0.0, weight=1.0):
        """Mix ``hu`` in where ``distance`` is negative; ``edge_mm`` blurs the border. Both may be arrays of the box."""
        box = box or self.whole
        width = self.pixel_mm + edge_mm
        share = np.clip(0.5 - distance / width, 0, 1) * weight
        if not np.any(share > 0):
            return
        part = self.hu[box]
        part += share * (hu - part)
        if organ is not None:
            self.label[box][share > 0.5] = LABELS[organ]

    def ellipsoid(self, centre, radii, hu, organ=None, turn=0.0, rough=None, edge_mm=0.0):
        """Paint an ellipsoid; ``rough`` (H, W) mm is added to its surface. Skipped where the slice misses it."""
        if abs(self.z - centre[2]) > radii[2] + 3:
            return
        box = self.box(centre[0], centre[1], max(radii[:2]) + 4)
        distance = ellipsoid(self.x[box], self.y[box], self.z, centre, radii, turn)
        self.paint(distance if rough is None else distance + rough[box], hu, organ, box, edge_mm)

    def tubes(self, segments, hu, organ=None, weight=1.0, grow=0.0, floor_mm=0.0):
        """Paint the segments (N, 8) of a vessel tree; ``floor_mm`` leaves out thinner ones, ``grow`` adds to radii."""
        low = np.minimum(segments[:, 2], segments[:, 5]) - segments[:, 6] - grow - 1
        high = np.maximum(segments[:, 2], segments[:, 5]) + segments[:, 6] + grow + 1
        near = (low < self.z) & (high > self.z) & (segments[:, 6] >= floor_mm)
        for s in segments[near]:
            start, end, r0, r1 = s[:3], s[3:6], s[6] + grow, s[7] + grow
            # only the stretch near the slice
            run = end[2] - start[2]
            if abs(run) > 1e-6:
                t = np.sort([(self.z - r0 - 2 - start[2]) / run, (self.z + r0 + 2 - start[2]) / run]).clip(0, 1)
                p, q = start + t[0] * (end - start), start + t[1] * (end - start)
            else:
                p, q = start, end
            middle, reach = (p + q) / 2, np.abs(q - p)[:2].max() / 2 + max(r0, r1) + 1
            box = self.box(middle[0], middle[1], reach)
            if box[0].stop > box[0].start and box[1].stop > box[1].start:
                self.paint(tube(self.x[box], self.y[box], self.z, start, end, r0, r1), hu, organ, box, weight=weight)
