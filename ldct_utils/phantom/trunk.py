"""What abdomen and chest share: table, skin, fat, muscle wall, ribs, spine, large vessels."""

import numpy as np

from ldct_utils.phantom.shapes import Canvas, Waves, ellipsoid, smooth_min, tube


def bump(x, centre, width):
    """Gaussian bump of height 1."""
    return np.exp(-(((x - centre) / width) ** 2))


class Trunk:
    """Outer anatomy of one patient's trunk. Drawing it leaves the distance to the cavity in ``canvas.cavity``."""

    def __init__(self, rng, half_width, half_depth, fat_mm, wall_mm):
        self.rng = rng
        self.a, self.b = half_width, half_depth
        self.fat_mm, self.wall_mm = fat_mm, wall_mm
        self.power = rng.uniform(2.25, 2.6)
        self.tilt = rng.normal(0, 0.03)
        self.bend = [(3.5, Waves(rng, 45, 30), Waves(rng, 45, 30)), (0.8, Waves(rng, 12, 60), Waves(rng, 12, 60))]
        self.thick = Waves(rng, (40, 40, 90), 30)
        self.wall_rough = Waves(rng, (18, 18, 30), 60)
        self.septa = [Waves(rng, (11, 7, 16), 90) for _ in range(2)]
        self.fat_grain = Waves(rng, 5, 120)
        self.fibre = [Waves(rng, (4.5, 8, 14), 120) for _ in range(2)]
        self.grain = Waves(rng, 1.6, 240)
        self.coarse = Waves(rng, 9, 90)
        self.trabeculae = Waves(rng, (1.2, 1.2, 2.4), 260)
        self.fat_hu, self.muscle_hu = rng.uniform(-112, -100), rng.uniform(52, 66)
        self.spine_y = half_depth - rng.uniform(66, 74) - 0.35 * fat_mm
        self.spine_x = rng.normal(0, 2.5)
        self.vertebra = rng.uniform(0.92, 1.1)  # size, relative
        self.disc_z = rng.uniform(0, 32)
        self.marrow_hu = rng.uniform(140, 230)
        self.ribs = [
            dict(side=side, z=150 - 25.5 * k + rng.normal(0, 2.5), drop=rng.uniform(135, 165), reach=reach,
                 long=rng.uniform(9.5, 14), thick=rng.uniform(3.3, 4.4), deep=rng.normal(0, 1.0),
                 turn=rng.normal(0.08, 0.07))
            for side in (-1, 1)
            for k, reach in enumerate((0.86,) * 8 + (0.8, 0.74, 0.5, 0.3))
        ]  # fmt: skip
        self.table_y = half_depth + rng.uniform(3, 7)
        self.wander = np.array(
            [0.2 * half_depth, 0.42 * half_width]
        )  # how far the stored window may lie off centre, mm

    def lesion_contrast(self, rng):
        """HU that a lesion adds to its organ: in the venous phase most lesions are fainter."""
        return rng.uniform(10, 60) * rng.choice([-1.0, 1.0], p=[0.65, 0.35])

    def extent(self):
        """Half width and half height, mm, of what must be projected: the body and the table under it."""
        return self.a + 14, self.b + 34

    def canvas(self, shape, pixel_mm, z):
        canvas = Canvas(shape, pixel_mm, z, self.bend)
        canvas.fibre = canvas.waves(self.fibre[0])
        canvas.grain = canvas.waves(self.grain)
        canvas.coarse = canvas.waves(self.coarse)
        self._table(canvas)
        return canvas

    def _table(self, canvas):
        # Two carbon-fibre shells around foam, a mattress on top; not bent with the patient.
        x, y = canvas.gx[None], canvas.gy[:, None]
        radius = 420.0
        sag = np.hypot(x, y - (self.table_y - radius)) - radius  # 0 on the upper shell
        canvas.paint(np.maximum(np.maximum(-sag, sag - 22), np.abs(x) - 215), -960, "table")
        for depth, hu in ((0.0, 90), (22.0, 60)):
            canvas.paint(np.maximum(np.abs(sag - depth) - 0.8, np.abs(x) - 215), hu, "table")

    def draw(self, canvas, ribs=True):
        x, y = canvas.x, canvas.y
        lean = x * np.cos(self.tilt) + y * np.sin(self.tilt)
        q = (np.abs(lean / self.a) ** self.power + np.abs(y / self.b) ** self.power) ** (1 / self.power)
        # the furrow over the spine
        q = q + 0.05 * np.exp(-((lean / 14) ** 2)) * np.clip(y / self.b, 0, 1) ** 3
        radius = np.hypot(x, y) + 1e-3
        surface = (q - 1) * radius / np.maximum(q, 1e-3) * (1 - 0.12 * np.abs(x * y) / radius**2)
        canvas.depth = -surface
        angle = np.arctan2(np.abs(lean), y) / np.pi  # 0 at the spine, 1 at the front
        canvas.angle, canvas.radius, canvas.side = angle, radius, np.sign(lean)
        uneven = canvas.waves(self.thick)
        fat = self.fat_mm * (1.2 + 0.25 * uneven + 0.4 * bump(angle, 0.28, 0.14) - 0.45 * bump(angle, 0.55, 0.2))
        wall = self.wall(canvas, angle) * (1 + 0.15 * uneven) + 0.9 * canvas.waves(self.wall_rough)
        canvas.fat_inner, canvas.wall_inner = canvas.depth - fat, canvas.depth - fat - wall
        canvas.cavity = -canvas.wall_inner
        self._skin_and_fat(canvas, surface)
        self._wall(canvas, wall)
        canvas.paint(canvas.cavity, self.fat_tissue(canvas), "fat")
        self.paraspinal(canvas)
        if ribs:
            self._ribs(canvas)

    def wall(self, canvas, angle):
        """Thickness of the muscle wall in mm; ``angle`` is 0 at the spine, 1 at the front."""
        return self.wall_mm * (1 - 0.35 * bump(angle, 0.8, 0.04) + 0.25 * bump(angle, 0.9, 0.05))

    def fat_tissue(self, canvas):
        return self.fat_hu + 4 * canvas.waves(self.fat_grain)

    def muscle(self, canvas, box=None):
        """Muscle HU with fibres and fat between them, over the box."""
        box = box or canvas.whole
        if not hasattr(canvas, "muscle_hu"):
            streak = canvas.waves(self.fibre[1])
            canvas.muscle_hu = (
                self.muscle_hu
                + 5 * canvas.fibre
                + 3 * canvas.grain
                - 75 * np.exp(-((streak / 0.13) ** 2)) * np.clip(canvas.coarse + 0.6, 0, 1)
            )
        return canvas.muscle_hu[box]

    def _skin_and_fat(self, canvas, surface):
        canvas.paint(surface, 25, "skin")
        tissue = self.fat_tissue(canvas)
        for septum in self.septa:
            tissue = tissue + 34 * np.exp(-((canvas.waves(septum) / 0.05) ** 2))
        canvas.paint(surface + 1.7, tissue, "fat")

    def _wall(self, canvas, wall):
        angle = canvas.angle
        # the white line between the straight muscles, and fat between the three layers of the flank
        gap = np.exp(-((np.abs(canvas.x) / 3.0) ** 2)) * (canvas.y < 0)
        layer = canvas.fat_inner / np.maximum(wall, 1)
        flank = np.clip(1 - np.abs(angle - 0.6) / 0.16, 0, 1) ** 0.5
        between = sum(np.exp(-(((layer - at) / 0.045) ** 2)) for at in (0.36, 0.68)) * flank
        hu = self.muscle(canvas) - 110 * between - 130 * gap
        canvas.paint(-canvas.fat_inner, hu, "muscle")

    def paraspinal(self, canvas):
        x0, y0 = self.spine_x, self.spine_y
        for side in (-1, 1):
            # a shallow bed of fat, then the back muscles
            for centre, radii, turn in (
                ((31, 47), (29, 19), 0.12),
                ((17, 50), (13, 15), 0.0),
                ((54, 38), (20, 14), 0.35),
            ):
                c = (x0 + side * centre[0], y0 + centre[1] * self.b / 112, canvas.z)
                box = canvas.box(c[0], c[1], 36)
                d = ellipsoid(canvas.x[box], canvas.y[box], canvas.z, c, (*radii, 500), side * turn)
                d = np.maximum(d + 0.9 * canvas.fibre[box], -canvas.depth[box] + 6)
                canvas.paint(d, self.muscle(canvas, box), "muscle", box)
        box = canvas.box(x0, y0 + 52, 34)
        seam = (
            ellipsoid(canvas.x[box], canvas.y[box], canvas.z, (x0, y0 + 52, canvas.z), (2.4, 30, 500))
            + 0.8 * canvas.fibre[box]
        )
        canvas.paint(np.maximum(seam, 4 - canvas.depth[box]), self.fat_hu + 15, "fat", box, edge_mm=1)

    def bone(self, canvas, distance, box, cortex_mm, cortex_hu, marrow_hu, texture=45.0):
        """Paint bone: a cortex of ``cortex_mm`` around cancellous bone with trabeculae."""
        canvas.paint(distance, cortex_hu, "bone", box)
        grain = canvas.waves(self.trabeculae)[box] if not hasattr(canvas, "trab") else canvas.trab[box]
        inner = marrow_hu + texture * grain + 0.4 * texture * canvas.coarse[box]
        canvas.paint(distance + cortex_mm + 0.25 * canvas.fibre[box], inner, "bone", box, edge_mm=0.8)

    def _ribs(self, canvas):
        canvas.trab = canvas.waves(self.trabeculae)
        angle, radius = canvas.angle, canvas.radius
        for rib in self.ribs:
            u = (rib["z"] - canvas.z) / rib["drop"]
            if not 0.1 < u < rib["reach"]:
                continue
            beta = u * np.pi * rib["side"]
            middle = (np.sin(beta) * (self.a - 24), np.cos(beta) * (self.b - 24))
            box = canvas.box(*middle, 62)  # the outline is no ellipse: leave room
            along = (angle[box] - u) * np.pi * radius[box]
            across = canvas.wall_inner[box] + 5.4 + rib["deep"] + rib["turn"] * along
            stretch = 1 + 0.5 * (u > 0.7)
            m = 2.6
            q = (np.abs(along / (rib["long"] * stretch)) ** m + np.abs(across / rib["thick"]) ** m) ** (1 / m) + 1e-4
            d = (q - 1) * np.minimum(rib["thick"], np.hypot(along, across) / q + 0.5)
            d = np.where(canvas.side[box] * rib["side"] > 0, d, 9)
            if u > 0.72:  # costal cartilage
                canvas.paint(
                    d, 105 + 10 * canvas.coarse[box] + 60 * np.clip(canvas.trab[box] - 1.2, 0, 2), "muscle", box
                )
            else:
                self.bone(canvas, d, box, 1.0, 780, self.marrow_hu - 40, 50)

    def spine(self, canvas):
        """Vertebra or disc, with pedicles, laminae, processes and the canal."""
        s, x0, y0 = self.vertebra, self.spine_x, self.spine_y
        box = canvas.box(x0, y0 + 22, 62)
        x, y, z = canvas.x[box] - x0, canvas.y[box] - y0, canvas.z
        canvas.trab = canvas.trab if hasattr(canvas, "trab") else canvas.waves(self.trabeculae)
        phase = (z - self.disc_z) % 33.0  # 0-7: disc
        waist = 1 - 0.07 * np.sin(np.pi * np.clip((phase - 7) / 26, 0, 1))
        body = ellipsoid(x, y, 0, (0, 0, 0), (23 * s * waist, 16.5 * s * waist, 99))
        dent = ellipsoid(x, y, 0, (0, 22 * s, 0), (10 * s, 8.5 * s, 99))
        body = np.maximum(body, -dent) + 0.5 * canvas.fibre[box]
        if phase < 7:
            canvas.paint(body, 85 + 12 * canvas.coarse[box] + 3 * canvas.grain[box], "muscle", box)
            canvas.paint(body + 5, 70 + 8 * canvas.coarse[box], "muscle", box, edge_mm=4)
        else:
            end = phase < 8.6 or phase > 31.6
            self.bone(canvas, body, box, 1.0, 420 + 250 * end, self.marrow_hu + 220 * end, 48)
        # the arch: pedicles only at the upper half of a vertebra, foramina below
        arch = np.full(body.shape, 50.0, np.float32)
        for side in (-1, 1):
            parts = [tube(x, y, 0, (side * 9 * s, 33 * s, 0), (0, 41 * s, 0), 3.2)]
            parts.append(ellipsoid(x, y, 0, (side * 16 * s, 31 * s, 0), (5.5 * s, 7.5 * s, 99), side * 0.5))
            if 14 < phase < 29:
                parts.append(tube(x, y, 0, (side * 14 * s, 13 * s, 0), (side * 14 * s, 27 * s, 0), 4.2))
            if 17 < phase < 26:
                parts.append(tube(x, y, 0, (side * 17 * s, 27 * s, 0), (side * 38 * s, 31 * s, 0), 4.0, 2.8))
            for part in parts:
                arch = smooth_min(arch, part, 3.0)
        spinous = tube(x, y, 0, (0, 41 * s, 0), (0.5, 62 * s, 0), 3.0, 4.4 if phase > 12 else 2.0)
        arch = smooth_min(arch, spinous, 3.0)
        canal = ellipsoid(x, y, 0, (0, 25.5 * s, 0), (10.5 * s, 9.0 * s, 99))
        arch = np.maximum(arch, -canal) + 0.4 * canvas.fibre[box]
        self.bone(canvas, arch, box, 1.2, 720, self.marrow_hu + 60, 70)
        canvas.paint(canal, self.fat_hu + 30, "fat", box)
        canvas.paint(canal + 1.6, 22, "cerebrospinal fluid", box)
        canvas.paint(ellipsoid(x, y, 0, (0, 25 * s, 0), (5.5 * s, 4.2 * s, 99)), 42, "muscle", box, edge_mm=0.5)
