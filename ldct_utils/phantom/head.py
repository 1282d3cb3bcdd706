"""Head without contrast, from the basal ganglia to the roof of the ventricles."""

import numpy as np

from ldct_utils.phantom.shapes import Canvas, Waves, ellipsoid, smooth_min, tube


class Head:
    """One patient's head. z 0 is the plane of the basal ganglia; slices lie around ``level``, mm."""

    lesion_organs = ("white matter", "grey matter")

    def __init__(self, rng):
        self.level = rng.uniform(-4, 42)
        self.a, self.b, self.c = rng.uniform(69, 76), rng.uniform(87, 97), rng.uniform(88, 96)
        self.wander = np.array([3.0, 3.0])
        self.bend = [(1.8, Waves(rng, 40, 30), Waves(rng, 40, 30)), (0.5, Waves(rng, 9, 60), Waves(rng, 9, 60))]
        self.skull_mm = rng.uniform(4.8, 7.0)
        self.scalp_mm = rng.uniform(3.5, 6.5)
        self.thick = Waves(rng, 30, 40)
        self.folds = Waves(rng, (8.5, 8.5, 12), 120)
        self.folds_too = Waves(rng, (7.0, 7.0, 11), 120)
        self.diploe = Waves(rng, 1.6, 200)
        self.grain = Waves(rng, 1.6, 240)
        self.coarse = Waves(rng, 7, 120)
        self.atrophy = rng.uniform(0.5, 1.5)  # width of sulci and ventricles, relative
        self.grey, self.white = rng.uniform(36, 40), rng.uniform(27, 30.5)
        self.turn = rng.normal(0, 0.05)
        self.midline = Waves(rng, 30, 20)
        self.calcified = rng.random() < 0.6

    def lesion_contrast(self, rng):
        """HU that a lesion adds: an old infarct, still denser than fluid, or fresh blood."""
        return rng.uniform(-20, -10) if rng.random() < 0.4 else rng.uniform(10, 45)

    def extent(self):
        return self.a + 24, self.b + 34

    def canvas(self, shape, pixel_mm, z):
        canvas = Canvas(shape, pixel_mm, z, self.bend)
        x, y = canvas.x, canvas.y
        canvas.x, canvas.y = (
            x * np.cos(self.turn) + y * np.sin(self.turn),
            y * np.cos(self.turn) - x * np.sin(self.turn),
        )
        canvas.grain, canvas.coarse = canvas.waves(self.grain), canvas.waves(self.coarse)
        gx, gy = canvas.gx[None], canvas.gy[:, None]
        # head rest: a carbon shell and foam
        shell = np.hypot(gx, gy + 5) - (self.b + 19)
        canvas.paint(np.maximum(np.abs(shell) - 1.2, 12 - gy), 30, "table")
        canvas.paint(np.maximum(np.maximum(shell + 1, -shell - 12), 20 - gy), -950, "table")
        return canvas

    def draw(self, canvas):
        x, y, z = canvas.x, canvas.y, canvas.z
        # wider behind than in front
        wide = x / (1 + 0.1 * np.clip(y / self.b, -1, 1))
        outer = ellipsoid(wide, y, z - 10, (0, 0, 0), (self.a, self.b, self.c))
        thick = self.skull_mm * (1 + 0.18 * canvas.waves(self.thick) + 0.3 * (np.abs(y) / self.b) ** 4)
        canvas.paint(outer, 25, "skin")
        canvas.paint(outer + 1.8, -80 + 15 * canvas.coarse, "fat")
        temporal = ellipsoid(np.abs(x), y, 0, (self.a - 2, -0.32 * self.b, 0), (7, 24, 99), 0.25)
        if z < 30:
            canvas.paint(np.maximum(temporal, outer + 2), 55 + 5 * canvas.grain, "muscle")
        bone = outer + self.scalp_mm
        canvas.paint(bone, 1350, "bone")
        diploe = np.abs(bone + thick / 2) - (thick / 2 - 1.7)
        canvas.paint(diploe, 720 + 160 * canvas.waves(self.diploe), "bone", edge_mm=1.0)
        inner = bone + thick
        canvas.paint(inner, 10, "cerebrospinal fluid")
        canvas.paint(np.maximum(inner, -inner - 1.0), 45, "cerebrospinal fluid")
        if z < 8:  # frontal sinus
            canvas.paint(
                np.maximum(ellipsoid(x, y, 0, (0, -self.b + self.scalp_mm + 5, 0), (17, 4.5, 99)), bone + 1.2),
                -980,
                "gas",
            )
        self._brain(canvas, inner)
        self._ventricles(canvas)

    def _brain(self, canvas, inner):
        x, y, z = canvas.x, canvas.y, canvas.z
        depth = -inner - 1.2 - 0.9 * self.atrophy  # mm under the brain's surface
        folds, folds_too = canvas.waves(self.folds), canvas.waves(self.folds_too)

        def distance_to(field):
            gy, gx = np.gradient(field, canvas.pixel_mm)
            return np.abs(field) / (np.hypot(gx, gy) + 0.03)

        reach = np.clip((24 - depth) / 12, 0, 1)
        middle = x + 1.2 * canvas.waves(self.midline)
        cleft = np.where((y < -0.28 * self.b) | (y > 0.42 * self.b) | (z > 38), np.abs(middle), 99)
        bent = 5 * canvas.waves(self.midline)
        insula = np.minimum(
            *(
                tube(
                    x + bent, y, 0, (side * 0.62 * self.a, -0.3 * self.b, 0), (side * 0.5 * self.a, 0.1 * self.b, 0), 0
                )
                for side in (-1, 1)
            )
        )
        if z > 30:
            insula = insula + (z - 30)
        sulcus = np.minimum(distance_to(folds), distance_to(folds_too + 0.25)) + 9 * (1 - reach)
        surface = np.minimum(np.minimum(depth, sulcus), np.minimum(cleft, insula))
        tissue = self.white + 0.8 * canvas.grain + 0.6 * canvas.coarse
        canvas.paint(inner + 1.2 + 0.9 * self.atrophy, tissue, "white matter")
        ribbon = np.maximum(surface - 3.4, -depth)
        canvas.paint(ribbon, self.grey + 0.8 * canvas.grain, "grey matter", edge_mm=1.0)
        for fluid, width in ((sulcus, 0.55), (cleft, 1.3), (insula, 1.0)):
            canvas.paint(
                np.maximum(fluid - width * self.atrophy * (0.7 + 0.3 * np.abs(canvas.coarse)), -depth),
                9,
                "cerebrospinal fluid",
            )
        canvas.paint(np.maximum(np.abs(cleft) - 0.7, -depth), 52, "grey matter", weight=0.8)
        if z < 34:
            for side in (-1, 1):
                fade = max(z - 16, 0) * 0.35
                for centre, radii, turn, hu in (
                    ((12, 12), (9.5, 15), 0.35, 0),
                    ((25, -8), (7.5, 17), 0.28, 0),
                    ((11.5, -24), (5, 9), 0.2, 1),
                ):
                    c = (side * centre[0], centre[1], z)
                    r = (max(radii[0] - fade, 0.5), max(radii[1] - fade, 0.5), 99)
                    canvas.ellipsoid(
                        c,
                        r,
                        self.grey - 1 + hu + 0.8 * canvas.grain[canvas.box(c[0], c[1], max(r[:2]) + 4)],
                        "grey matter",
                        -side * turn,
                        0.8 * canvas.coarse,
                        1.5,
                    )

    def _ventricles(self, canvas):
        x, y, z, w = canvas.x, canvas.y, canvas.z, 0.65 + 0.35 * self.atrophy
        d = np.full(x.shape, 99.0, np.float32)
        for side in (-1, 1):
            if z < 30:
                horn = tube(x, y, 0, (side * 4.5, -20, 0), (side * 11, -34, 0), 3.2 * w, 2.2 * w)
                trigone = tube(x, y, 0, (side * 17, 28, 0), (side * 24, 44, 0), 4.4 * w, 3.0 * w)
                d = np.minimum(d, np.minimum(horn, trigone))
            if z > 14:
                body = tube(x, y, 0, (side * 7, -26, 0), (side * 10, 8, 0), 3.4 * w, 4.0 * w)
                tail = tube(x, y, 0, (side * 10, 8, 0), (side * 20, 36, 0), 4.0 * w, 4.0 * w)
                d = np.minimum(d, smooth_min(body, tail, 4) + max(0, z - 30) * 0.7 + max(0, 20 - z) * 0.6)
        if z < 14:
            d = np.minimum(d, tube(x, y, 0, (0, -8, 0), (0, 14, 0), 1.5 * w))
        canvas.paint(d - 1.0, self.white - 4, "white matter", edge_mm=2, weight=0.6)
        canvas.paint(d + 0.3 * canvas.coarse, 6, "cerebrospinal fluid")
        if self.calcified and z < 24:
            for side in (-1, 1):
                canvas.ellipsoid((side * 19, 32, 10), (2.2, 3.5, 9), 130, "cerebrospinal fluid")
            canvas.ellipsoid((0, 24, 2), (2.2, 2.6, 5), 140, "grey matter")
