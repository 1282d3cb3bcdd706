"""Abdomen in the portal venous phase, from the liver's dome to below the kidneys."""

import numpy as np

from ldct_utils.phantom.gut import Gut
from ldct_utils.phantom.organs import LABELS
from ldct_utils.phantom.shapes import Waves, ellipsoid, inside, smooth_min, tree, tube
from ldct_utils.phantom.trunk import Trunk


class Abdomen(Gut, Trunk):
    """One patient's abdomen. z 0 is the renal hilum (L1/L2); slices lie around ``level``, mm."""

    lesion_organs = ("liver", "spleen", "kidney")

    def __init__(self, rng):
        super().__init__(rng, rng.uniform(146, 170), rng.uniform(100, 122), rng.uniform(7, 17), rng.uniform(12, 16))
        self.level = rng.uniform(-60, 72)
        a, b = self.a, self.b
        jitter = rng.normal
        self.surface = {name: Waves(rng, 14, 80) for name in ("liver", "gut", "soft")}
        self.lobules = Waves(rng, 3.2, 200)
        self.fluid = Waves(rng, 5.0, 120)
        self.faeces = Waves(rng, 2.6, 220)
        self.strands = [Waves(rng, 7, 120) for _ in range(2)]
        enhance = rng.uniform(-12, 14)
        self.hu = dict(liver=106 + enhance + jitter(0, 5), spleen=120 + enhance, cortex=185 + 1.5 * enhance,
                       medulla=140 + 1.5 * enhance, vessel=172 + 1.5 * enhance, aorta=165 + 2 * enhance,
                       pancreas=92 + enhance / 2, gut=92 + enhance / 2)  # fmt: skip
        # liver
        self.right_lobe = dict(centre=(-0.52 * a, -0.06 * b, 42 + jitter(0, 6)), radii=(0.62 * a, 0.86 * b, 98))
        self.left_lobe = dict(
            centre=(-0.02 * a, -0.5 * b, 62 + jitter(0, 8)), radii=(0.5 * a, 0.3 * b, 50), turn=jitter(0.1, 0.08)
        )
        hilum = np.array([-0.2 * a, -0.02 * b, 30.0])
        zone = (-0.52 * a, -0.05 * b, 45)
        self.portal = tree(hilum, inside(rng, 600, zone, (0.56 * a, 0.75 * b, 80)), 0.75)
        top = np.array([-0.16 * a, 0.12 * b, 92.0])
        self.hepatic = tree(top, inside(rng, 360, zone, (0.55 * a, 0.72 * b, 80)), 0.9)
        # spleen, kidneys, vessels
        self.spleen = dict(
            centre=(0.66 * a, 0.3 * b, 48 + jitter(0, 8)), radii=(0.24 * a, 0.46 * b, 52), turn=jitter(-0.5, 0.08)
        )
        self.kidneys = []
        for side in (-1, 1):
            centre = (
                side * (0.42 * a + jitter(0, 2)),
                self.spine_y + jitter(-1, 4),
                -12 + 8 * (side > 0) + jitter(0, 6),
            )
            self.kidneys.append(
                dict(
                    centre=centre,
                    radii=(24 + jitter(0, 1.5), 28 + jitter(0, 1.5), 54),
                    turn=side * jitter(0.7, 0.12),
                    side=side,
                )
            )
        self.cysts = [(k, inside(rng, 1, k["centre"], np.multiply(k["radii"], (1, 1, 0.5)))[0], rng.uniform(4, 15))
                      for k in self.kidneys if rng.random() < 0.45]  # fmt: skip
        self.aorta = (self.spine_x + 8 + jitter(0, 2), self.spine_y - 31 * self.vertebra, rng.uniform(8.5, 11))
        self.cava = (self.spine_x - 22 + jitter(0, 2), self.spine_y - 27 * self.vertebra)
        self.plaque = rng.uniform(0, 2 * np.pi, rng.integers(0, 4))
        # stomach, colon, small bowel
        self.stomach = dict(
            centre=(0.4 * a, -0.32 * b, 62 + jitter(0, 6)), radii=(0.36 * a, 0.42 * b, 52), turn=jitter(0.4, 0.15)
        )
        self.stomach_level = -0.42 * b + jitter(0, 0.08 * b)
        self.stomach_hu = rng.choice([15.0, 30.0, 160.0])
        self.transverse = rng.uniform(-30, 30)
        self.colon_gas = rng.uniform(-0.4, 1.0)
        self.loops = self._loops(rng)
        root = np.array([self.aorta[0] - 2, self.aorta[1] - 22, 15.0])
        points = inside(rng, 800, (0.05 * a, -0.3 * b, self.level), (0.72 * a, 0.5 * b, 55))
        self.mesentery = tree(root, points, 0.55, balance=0.55)
        self.pancreas_line = np.array(
            [[-38, -4, 8], [-30, -14, 14], [-8, -22, 20], [20, -22, 27], [48, -8, 36], [72, 10, 44]], float
        )
        self.pancreas_line += np.array([self.spine_x, self.aorta[1] - 8, 0]) + rng.normal(
            0, 3, self.pancreas_line.shape
        )

        # ureters, gonadal and lumbar vessels, lymph nodes: cords and short beads in the retroperitoneal fat
        start = rng.uniform((-62, self.spine_y - 34, -110), (62, self.spine_y + 12, 60), (46, 3))
        along = rng.normal(0, (5, 3, 1), (46, 3)) + np.outer(rng.choice([7.0, 150.0], 46), (0, 0, 1))
        size = rng.uniform(0.7, 2.4, (46, 1))
        self.cords = np.hstack([start, start + along, size, size])

    def draw(self, canvas, ribs=True):
        super().draw(canvas, ribs=False)
        canvas.soft = canvas.waves(self.surface["soft"])
        self._mesentery(canvas)
        self._small_bowel(canvas)
        self._colon(canvas)
        self._retroperitoneum(canvas)
        self._pancreas(canvas)
        self._stomach(canvas)
        self._spleen(canvas)
        self._kidneys(canvas)
        self._liver(canvas)
        self._great_vessels(canvas)
        self._ribs(canvas)
        self.spine(canvas)

    def _retroperitoneum(self, canvas):
        x0, y0, z = self.spine_x, self.spine_y, canvas.z
        psoas = np.clip((20 - z) / 70, 0, 1)
        for side in (-1, 1):
            # fat bed, psoas, quadratus lumborum, crus of the diaphragm
            canvas.ellipsoid(
                (x0 + side * 45, y0 + 2, z),
                (45, 36, 99),
                canvas.haze[canvas.box(x0 + side * 45, y0 + 2, 49)],
                "fat",
                edge_mm=3,
            )
            canvas.tubes(self.cords[np.sign(self.cords[:, 0]) == side], 75, "vessel")
            for centre, radii in (((29, 3), (9 + 9 * psoas, 11 + 10 * psoas)), ((52, 26), (15, 7.5))):
                c = (x0 + side * centre[0], y0 + centre[1], z)
                box = canvas.box(c[0], c[1], max(radii) + 4)
                d = ellipsoid(canvas.x[box], canvas.y[box], z, c, (*radii, 99), side * 0.5) + 1.2 * canvas.soft[box]
                canvas.paint(d, self.muscle(canvas, box), "muscle", box)
            if z > -20:
                box = canvas.box(x0 + side * 15, y0 - 20, 30)
                d = (
                    tube(
                        canvas.x[box],
                        canvas.y[box],
                        0,
                        (x0 + side * 24, y0 - 8, 0),
                        (x0 + side * 15, y0 - 33, 0),
                        3.6,
                        2.4,
                    )
                    + 0.8 * canvas.soft[box]
                )
                canvas.paint(d, self.muscle(canvas, box), "muscle", box)

    def _spleen(self, canvas):
        box = canvas.box(*self.spleen["centre"][:2], 0.5 * self.b + 8)
        d = ellipsoid(canvas.x[box], canvas.y[box], canvas.z, **self.spleen) + 1.6 * canvas.soft[box]
        d = np.maximum(d, canvas.cavity[box] + 1.0 + 0.8 * canvas.coarse[box])
        canvas.paint(d, self.hu["spleen"] + 3 * canvas.coarse[box] + 3 * canvas.grain[box], "spleen", box)

    def _kidneys(self, canvas):
        for kidney in self.kidneys:
            c, (rx, ry, rz), turn, side = kidney["centre"], kidney["radii"], kidney["turn"], kidney["side"]
            if abs(canvas.z - c[2]) > rz + 12:
                continue
            box = canvas.box(c[0], c[1], 52)
            x, y, z = canvas.x[box], canvas.y[box], canvas.z
            shell = ellipsoid(x, y, z, c, (rx + 7, ry + 7, rz + 12), turn) + 3.0 * canvas.soft[box]
            canvas.paint(np.maximum(shell, canvas.cavity[box] + 1), self.fat_tissue(canvas)[box], "fat", box)
            fascia = np.abs(shell) - 0.4
            canvas.paint(np.maximum(fascia, canvas.cavity[box] + 1), -40, "fat", box, weight=0.6)
            d = ellipsoid(x, y, z, c, (rx, ry, rz), turn)
            hilum = np.array([c[0] - side * 17, c[1] - 7, c[2]])
            sinus = ellipsoid(x, y, z, hilum, (15, 9, 26), side * 0.3) + 1.5 * canvas.fibre[box]
            d = np.maximum(d, -sinus + 0.5) + 0.9 * canvas.soft[box]
            canvas.paint(d, self.hu["cortex"] + 4 * canvas.grain[box], "kidney", box)
            # pyramids: darker wedges between the cortex and the sinus
            turnings = np.cos(6.5 * np.arctan2(y - hilum[1], x - hilum[0]) + 0.12 * z)
            pyramid = np.maximum(d + 6.5 + 2.5 * turnings, 3.0 - sinus)
            canvas.paint(pyramid, self.hu["medulla"], "kidney", box, edge_mm=2.0)
            canvas.paint(sinus + 1.5, self.fat_hu + 40 + 25 * canvas.fibre[box], "fat", box, edge_mm=1.5)
            canvas.paint(ellipsoid(x, y, z, hilum, (11, 3.2, 9), side * 0.3), 20, "kidney", box, edge_mm=1)
            vein = (self.aorta[0] - 2, self.aorta[1] + 2) if side > 0 else self.cava
            canvas.tubes(
                np.array([[*vein, c[2] + 8, hilum[0] + side * 4, hilum[1], c[2], 4.4, 3.4]]),
                self.hu["vessel"],
                "vessel",
            )
        for _, centre, radius in self.cysts:
            canvas.ellipsoid(centre, (radius, radius, radius), 8.0, "kidney")

    def _liver(self, canvas):
        z = canvas.z
        surface = canvas.waves(self.surface["liver"])
        right = ellipsoid(canvas.x, canvas.y, z, **self.right_lobe)
        left = ellipsoid(canvas.x, canvas.y, z, **self.left_lobe)
        d = smooth_min(right, left, 14.0) + 1.8 * surface
        d = np.maximum(d, canvas.cavity + 0.7 + 0.8 * canvas.soft)
        # impressions of kidney, gall bladder fossa, spine
        for kidney in self.kidneys[:1]:
            d = np.maximum(
                d,
                -ellipsoid(
                    canvas.x, canvas.y, z, kidney["centre"], np.add(kidney["radii"], (1.5, 1.5, 4)), kidney["turn"]
                ),
            )
        d = np.maximum(d, 34 - np.hypot(canvas.x - self.spine_x, (canvas.y - self.spine_y + 6) * 0.9))
        fissure = (
            tube(
                canvas.x, canvas.y, 0, (-0.1 * self.a, -0.75 * self.b, 0), (-0.16 * self.a, -0.18 * self.b, 0), 0.2, 1.8
            )
            + 1.3 * canvas.soft
        )
        d = np.maximum(d, -fissure) if z < 58 else d
        lobule = canvas.waves(self.lobules)
        tissue = self.hu["liver"] + 4.0 * lobule + 2.5 * canvas.coarse + 2.5 * canvas.grain
        canvas.paint(d, tissue, "liver")
        mask = canvas.label == LABELS["liver"]
        before, labels = canvas.hu.copy(), canvas.label.copy()
        canvas.tubes(self.portal, self.hu["vessel"] + 4, "vessel")
        canvas.tubes(self.hepatic, self.hu["vessel"] - 4, "vessel")
        outside = ~mask
        canvas.hu[outside], canvas.label[outside] = before[outside], labels[outside]
        bladder = (-0.27 * self.a, -0.42 * self.b, 0)
        canvas.ellipsoid(bladder, (15, 21, 32), 80, "gallbladder", 0.5, canvas.soft)
        canvas.ellipsoid(bladder, (13.2, 19.2, 30), 12, "gallbladder", 0.5, canvas.soft)

    def _great_vessels(self, canvas):
        x, y, r = self.aorta
        z = canvas.z
        hu = self.hu["aorta"]
        canvas.ellipsoid((x, y, z), (r + 3, r + 3, 99), self.fat_hu + 15, "fat", 0.0, 2 * canvas.soft, 3)
        canvas.ellipsoid((x, y, z), (r + 1.2, r + 1.2, 99), 60, "vessel")
        canvas.ellipsoid((x, y, z), (r, r, 99), hu, "vessel")
        for at in self.plaque:
            canvas.ellipsoid(
                (x + r * np.cos(at), y + r * np.sin(at), self.level + 4 * np.sin(7 * at)), (1.6, 1.6, 6), 650, "bone"
            )
        cx, cy = self.cava
        canvas.ellipsoid((cx, cy, z), (12.5, 9.5, 99), self.hu["vessel"] - 18, "vessel", 0.25, canvas.soft)
        # superior mesenteric artery and vein, coeliac trunk higher up
        vessels = [
            (x, y - r, 34, x - 1, y - r - 10, 20, 4, 3.8),
            (x - 1, y - r - 10, 20, x - 3, y - r - 18, -70, 3.8, 3.2),
            (x - 13, y - r - 15, 25, x - 14, y - r - 19, -70, 6, 5),
            (x - 13, y - r - 15, 25, -0.2 * self.a, -0.02 * self.b, 32, 7, 7),
            (x, y - r, 44, x - 2, y - r - 14, 46, 3.6, 3.2),
            (x - 2, y - r - 14, 46, x + 34, y - r - 6, 50, 3, 2.6),
        ]
        canvas.tubes(np.array(vessels), hu, "vessel")
