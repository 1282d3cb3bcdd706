"""Chest with contrast, from the aortic arch to the middle of the heart."""

import numpy as np

from ldct_utils.phantom.shapes import Waves, ellipsoid, tree, tube
from ldct_utils.phantom.trunk import Trunk, bump


class Chest(Trunk):
    """One patient's chest. z 0 is the carina (T5); slices lie around ``level``, mm."""

    lesion_organs = ("lung", "heart", "muscle")

    def __init__(self, rng):
        super().__init__(rng, rng.uniform(152, 172), rng.uniform(102, 118), rng.uniform(6, 13), rng.uniform(11, 14))
        self.level = rng.uniform(-70, 45)
        self.wander = np.array([0.1 * self.b, 0.45 * self.a])
        a, b = self.a, self.b
        self.fat_hu -= 3
        self.soft = Waves(rng, 14, 80)
        self.lobule = [Waves(rng, scale, 160) for scale in (2.2, 11.0)]
        self.haze = Waves(rng, 40, 40)
        self.fissure = [Waves(rng, 60, 20) for _ in range(2)]
        blood = rng.uniform(130, 260)
        self.hu = dict(
            blood=blood,
            pulmonary=blood + rng.uniform(-20, 60),
            muscle=rng.uniform(85, 115),
            lung=rng.uniform(-880, -835),
        )
        self.shift = rng.normal(0, 3, 2)
        self.heart_turn = rng.normal(0.55, 0.08)
        self.nodes = [
            (rng.uniform(-25, 25), rng.uniform(-25, 25), self.level + rng.uniform(-15, 15), rng.uniform(2, 5))
            for _ in range(14)
        ]
        self.arteries, self.veins, self.bronchi = [], [], []
        for side in (-1, 1):
            centre = np.array([side * 0.5 * a, 0.02 * b, self.level])
            radii = np.array([0.4 * a, 0.78 * b, 62.0])
            root = np.array([side * 40.0, -4.0, np.clip(self.level, -35, 10)])
            self.arteries.append(tree(root, self._points(rng, 2400, centre, radii), 0.42, balance=0.35))
            self.veins.append(
                tree(np.add(root, (0, -10, -18)), self._points(rng, 1300, centre, radii), 0.42, balance=0.35)
            )
            self.bronchi.append(
                tree(np.add(root, (0, 4, 5)), self._points(rng, 26, centre, 0.5 * radii), 1.2, balance=0.3)
            )

    @staticmethod
    def _points(rng, count, centre, radii):
        points = rng.uniform(-1, 1, (count * 2, 3))
        points = points[(points[:, :2] ** 2).sum(1) < 1][:count]
        return centre + points * radii

    def wall(self, canvas, angle):
        # breast muscles in front, shoulder blade and the broad back muscle behind; both taper downwards
        high = np.clip((canvas.z + 90) / 110, 0, 1)
        return self.wall_mm * (
            1 + 0.15 * bump(angle, 0.75, 0.1) + high * (0.55 * bump(angle, 0.8, 0.1) + 0.9 * bump(angle, 0.33, 0.11))
        )

    def draw(self, canvas, ribs=True):
        super().draw(canvas, ribs=False)
        canvas.bumps = canvas.waves(self.soft)
        self._shoulder(canvas)
        lung = self._lungs(canvas)
        self._mediastinum(canvas, lung)
        self._ribs(canvas)
        self.spine(canvas)
        self._sternum(canvas)

    def _shoulder(self, canvas):
        """Shoulder blade in its muscles, and the layers of the breast muscles."""
        for side in (-1, 1):
            beta = side * 0.36 * np.pi
            c = np.array([np.sin(beta) * (self.a - 22), np.cos(beta) * (self.b - 14)])
            along = np.array([np.cos(beta), -np.sin(beta)])
            height = np.clip((canvas.z + 75) / 90, 0, 1)
            if height <= 0.05:
                continue
            p, q = c - along * 38 * height, c + along * 34 * height
            box = canvas.box(*c, 48)
            d = tube(canvas.x[box], canvas.y[box], 0, (*p, 0), (*q, 0), 1.7, 2.8) + 0.5 * canvas.fibre[box]
            sheath = np.maximum(d - 7, -canvas.fat_inner[box] - 2)
            canvas.paint(sheath, self.muscle(canvas, box), "muscle", box)
            canvas.trab = canvas.trab if hasattr(canvas, "trab") else canvas.waves(self.trabeculae)
            self.bone(canvas, np.maximum(d, -canvas.fat_inner[box] + 3), box, 1.1, 700, 250)

    def _lungs(self, canvas):
        x, y, z = canvas.x, canvas.y, canvas.z
        mid = self.shift[0]
        # the mediastinum between them: narrow in front, wide at the heart
        narrow = 6 + 26 * bump(y, 2, 34) + 14 * np.clip((y - 20) / 25, 0, 1)
        middle = np.abs(x - mid) - narrow
        d = np.maximum(canvas.cavity + 3.0, -middle)
        d = np.maximum(d, 31 - np.hypot(x - self.spine_x, 0.95 * (y - self.spine_y)))
        d = d + 0.8 * canvas.bumps
        heart = self._heart_distance(canvas)
        d = np.maximum(d, -heart + 4)
        canvas.paint(canvas.cavity + 1.5, self.fat_tissue(canvas), "fat")
        grain = 14 * canvas.waves(self.lobule[0]) + 12 * canvas.waves(self.lobule[1]) + 14 * canvas.waves(self.haze)
        air = self.hu["lung"] + grain + 45 * np.clip(y / self.b + 0.2, -1, 1)
        canvas.paint(d + 0.8, air, "lung", edge_mm=0.4)
        mask = d < -1.0
        before, labels = canvas.hu.copy(), canvas.label.copy()
        for i, side in enumerate((-1, 1)):
            box_side = side * (x - mid) > 0
            plane = (y + 12 + 0.55 * (z - self.level)) * 0.8 + 0.25 * np.abs(x) - 20 + 6 * canvas.waves(self.fissure[i])
            canvas.paint(np.where(box_side & mask, np.abs(plane) - 0.35, 9), -620, weight=0.7)
        for arteries, veins, bronchi in zip(self.arteries, self.veins, self.bronchi):
            canvas.tubes(veins, 45, "vessel")
            canvas.tubes(arteries, 45, "vessel")
            canvas.tubes(bronchi, 0, "airway", grow=0.9)
            canvas.tubes(bronchi, -950, "airway")
        # small vessels stay lung in the organ masks: they are its texture
        canvas.hu[~mask], canvas.label[~mask] = before[~mask], labels[~mask]
        return mask

    def _heart_distance(self, canvas):
        # the heart hangs from the great vessels: nothing above z = -25
        c = (20 + self.shift[0], -18 + self.shift[1], -82)
        return ellipsoid(canvas.x, canvas.y, canvas.z, c, (60, 46, 64), self.heart_turn) + 1.5 * canvas.bumps

    def _mediastinum(self, canvas, lung):
        z, hu = canvas.z, self.hu
        mx, my = self.shift
        keep = canvas.hu.copy(), canvas.label.copy()
        haze = canvas.waves(self.haze)
        for x, y, at, r in self.nodes:
            canvas.ellipsoid((x, y, at), (r, 0.7 * r, r), 50, "muscle")
        canvas.hu[lung], canvas.label[lung] = keep[0][lung], keep[1][lung]
        heart = self._heart_distance(canvas)
        canvas.paint(heart - 3.5, self.fat_tissue(canvas), "fat")
        canvas.paint(np.abs(heart - 3.0) - 0.6, 30, "heart", weight=0.8)
        if z < -24:
            muscle = hu["muscle"] + 4 * canvas.grain + 3 * canvas.coarse
            canvas.paint(heart, hu["muscle"] - 60 + 3 * canvas.coarse, "heart")
            s = np.sqrt(np.clip(1 - ((z + 82) / 66) ** 2, 0.05, 1))
            blood = hu["blood"] + 4 * canvas.grain
            for at, radii, turn, wall in (((46, -8), (34, 25), 0.75, 9.5), ((12, -42), (34, 17), 0.45, 2.5),
                                          ((-24, -22), (21, 25), 0.0, 2.0), ((4, 16), (32, 15), 0.1, 2.0)):  # fmt: skip
                c = (at[0] * s + mx, at[1] * s + my, z)
                d = ellipsoid(canvas.x, canvas.y, z, c, (radii[0] * s, radii[1] * s, 99), turn) + 1.0 * canvas.bumps
                canvas.paint(d, muscle, "heart")
                canvas.paint(d + wall + 1.0 * canvas.fibre, blood + (25 if at[0] < 20 else 0), "vessel", edge_mm=1)
        vessel, pulmonary = hu["blood"], hu["pulmonary"]
        lines = []
        if z < 50:
            lines += [((26, 34, -200), (25, 30, 44), 12.5, vessel)]  # descending aorta
        if -30 < z < 50:
            lines += [((-12, -22, -30), (-14, -22, 40), 16, vessel)]
        lines += [
            ((-14, -22, 42), (2, -14, 54), 14.5, vessel),
            ((2, -14, 54), (18, 6, 54), 13, vessel),
            ((18, 6, 54), (25, 28, 44), 12.5, vessel),
        ]
        lines += [((-31, -16, 90), (-36, -12, -28), 9, vessel + 70)]  # superior vena cava
        lines += [
            ((16, -36, -30), (20, -22, -2), 14, pulmonary),
            ((20, -22, -4), (-2, -2, -16), 11.5, pulmonary),
            ((-2, -2, -16), (-44, -2, -22), 10.5, pulmonary),
            ((20, -22, -2), (46, 4, -4), 11.5, pulmonary),
            ((46, 4, -4), (52, 14, -40), 8, pulmonary),
            ((-44, -2, -22), (-50, 8, -55), 7.5, pulmonary),
        ]
        lines += [
            ((4, -16, 58), (-16, -14, 95), 6.5, vessel),
            ((14, -6, 58), (14, -8, 95), 4.5, vessel),
            ((22, 4, 58), (28, 6, 95), 5, vessel),
        ]
        for start, end, r, value in lines:
            start, end = np.add(start, (mx, my, 0)), np.add(end, (mx, my, 0))
            middle = (start + end) / 2
            box = canvas.box(middle[0], middle[1], np.abs(end - start)[:2].max() / 2 + r + 2)
            d = tube(canvas.x[box], canvas.y[box], z, start, end, r)
            canvas.paint(d - 1.2, 45, "vessel", box)
            canvas.paint(d, value + 4 * canvas.grain[box], "vessel", box)
        # airways and gullet
        airways = [((-2, 6, 120), (0, 10, 2), 9.0)] if z > -8 else []
        airways += [((0, 10, 2), (-36, 12, -26), 6.8), ((0, 10, 2), (38, 14, -34), 6.2)]
        for start, end, r in airways:
            d = tube(canvas.x, canvas.y, z, np.add(start, (mx, my, 0)), np.add(end, (mx, my, 0)), r)
            canvas.paint(d - 1.4, 35, "airway")
            canvas.paint(d, -985, "airway")
        gullet = (8 + mx, 27 + my, z)
        canvas.ellipsoid(gullet, (9, 6, 99), 45, "muscle", 0.2, canvas.bumps)
        canvas.ellipsoid(gullet, (3, 1.5, 99), -500 + 100 * haze.mean(), "gas", 0.2, canvas.bumps)
        canvas.ellipsoid(
            (self.spine_x - 8, self.spine_y - 27 * self.vertebra, z), (3.6, 3.6, 99), vessel - 20, "vessel"
        )

    def _sternum(self, canvas):
        y0 = -self.b + self.fat_mm * 0.75 + 12
        box = canvas.box(self.tilt * 60, y0, 32)
        x, y = canvas.x[box], canvas.y[box]
        d = ellipsoid(x, y, 0, (0, y0, 0), (21, 6.2, 99)) + 0.6 * canvas.fibre[box]
        self.bone(canvas, d, box, 1.1, 520, self.marrow_hu - 60, 40)
