"""Stomach, small bowel, colon, pancreas and mesentery: what is drawn from the inside of the abdomen outwards."""

import numpy as np

from ldct_utils.phantom.shapes import ellipsoid, smooth_min, tube


class Gut:
    """The part of ``Abdomen`` that draws the digestive tract."""

    def _loops(self, rng):
        """Small-bowel loops: curved chains of tubes, packed by dart throwing."""
        loops, tries = [], 0
        a, b = self.a, self.b
        while len(loops) < 90 and tries < 4000:
            tries += 1
            c = np.array([rng.uniform(-0.7, 0.78) * a, rng.uniform(-0.72, 0.18) * b, self.level + rng.uniform(-45, 45)])
            if any(np.linalg.norm((c - other["points"][1]) * (1, 1, 0.8)) < 20 for other in loops):
                continue
            way = rng.normal(size=3) * (1, 0.8, 0.7)
            way *= rng.uniform(14, 30) / np.linalg.norm(way)
            aside = rng.normal(size=3) * 7
            kind = rng.choice(["fluid", "collapsed", "contrast", "gas"], p=[0.36, 0.36, 0.14, 0.14])
            loops.append(dict(points=np.array([c - way + aside, c, c + way + aside]), kind=kind,
                              radius=rng.uniform(8.0, 13.5) * (0.75 if kind == "collapsed" else 1),
                              hu=rng.uniform(10, 35), bright=rng.uniform(150, 420)))  # fmt: skip
        return loops

    def _mesentery(self, canvas):
        haze = self.fat_tissue(canvas)
        for strand in self.strands:
            haze = haze + 30 * np.exp(-((canvas.waves(strand) / 0.04) ** 2))
        canvas.haze = haze
        canvas.paint(canvas.cavity + 4, haze, "fat", edge_mm=2)
        canvas.tubes(self.mesentery, self.hu["vessel"] - 15, "vessel", floor_mm=0.5)

    def _gut(self, canvas, distance, box, kind, hu, bright, wall_mm, gas_above):
        """Paint a piece of gut: wall, then contents; gas lies above (anterior of) ``gas_above`` mm."""
        rough = canvas.coarse[box]
        distance = np.maximum(distance, canvas.cavity[box] + 2)
        canvas.paint(distance, self.hu["gut"] + 8 * canvas.grain[box], "bowel", box)
        inner = distance + wall_mm + 0.5 * rough
        if kind == "collapsed":
            canvas.paint(inner, 58 + 16 * canvas.fibre[box] + 10 * canvas.grain[box], "bowel", box, edge_mm=1.5)
            return
        folds = canvas.feathers[box]
        if kind == "faeces":
            mottle = canvas.faeces[box]
            content = np.where(mottle > 1.0, np.maximum(-650 - 150 * mottle, -990), 45 + 22 * mottle)
        else:
            content = (
                (bright if kind == "contrast" else hu)
                + 9 * canvas.coarse[box]
                + (14 if kind == "fluid" else 30) * folds
            )
        canvas.paint(inner, content, "bowel", box, edge_mm=0.5)
        if kind in ("gas", "faeces"):
            canvas.paint(np.maximum(inner + 0.4, canvas.y[box] - gas_above), -985, "gas", box)

    def _small_bowel(self, canvas):
        canvas.feathers = np.clip(canvas.fibre, 0, 2)
        canvas.faeces = canvas.waves(self.faeces)
        gut = canvas.waves(self.surface["gut"])
        for loop in self.loops:
            p, r = loop["points"], loop["radius"]
            if not p[:, 2].min() - r - 3 < canvas.z < p[:, 2].max() + r + 3:
                continue
            box = canvas.box(p[1, 0], p[1, 1], 48)
            x, y = canvas.x[box], canvas.y[box]
            d = (
                smooth_min(tube(x, y, canvas.z, p[0], p[1], r), tube(x, y, canvas.z, p[1], p[2], r), 3.0)
                + 1.6 * gut[box]
            )
            self._gut(canvas, d, box, loop["kind"], loop["hu"], loop["bright"], 1.9, p[1, 1] - 0.25 * r)

    def _colon(self, canvas):
        z, a, b = canvas.z, self.a, self.b
        haustra = 1 + 0.16 * np.cos(z / 5.5)
        if z < 30:
            for x0, y0, r in ((-0.7 * a, 0.12 * b, 23), (0.74 * a, 0.22 * b, 15)):
                box = canvas.box(x0, y0, r + 10)
                d = (
                    ellipsoid(canvas.x[box], canvas.y[box], 0, (x0, y0, 0), (r * haustra, r * 1.1, 99))
                    + 2.0 * canvas.soft[box]
                )
                self._gut(canvas, d, box, "faeces", 0, 0, 2.0, y0 - self.colon_gas * 10)
        line = np.array([[-0.62, -0.35], [-0.4, -0.62], [-0.12, -0.72], [0.2, -0.72], [0.45, -0.62], [0.66, -0.3]]) * (
            a,
            b,
        )
        depth = np.array([18, 4, -6, -2, 14, 36]) + self.transverse
        for i in range(len(line) - 1):
            start, end = (*line[i], depth[i]), (*line[i + 1], depth[i + 1])
            middle = (line[i] + line[i + 1]) / 2
            box = canvas.box(*middle, 45)
            bulge = 2.2 * np.cos(canvas.x[box] / 4.5)
            d = tube(canvas.x[box], canvas.y[box], z, start, end, 15.5) + bulge + 1.2 * canvas.soft[box]
            if d.min() < 0:
                self._gut(canvas, d, box, "faeces", 0, 0, 1.8, middle[1] + self.colon_gas * 8)

    def _pancreas(self, canvas):
        box = canvas.box(15, self.aorta[1] - 12, 85)
        x, y, p = canvas.x[box], canvas.y[box], self.pancreas_line
        d = tube(x, y, canvas.z, p[0], p[1], 15, 13)
        for i, r in zip(range(1, len(p) - 1), (12, 10.5, 10.5, 10)):
            d = smooth_min(d, tube(x, y, canvas.z, p[i], p[i + 1], r), 6)
        lobules = canvas.coarse[box]
        d = d + 2.6 * canvas.fibre[box] * 0.7
        canvas.paint(
            d,
            self.hu["pancreas"] + 9 * lobules + 6 * canvas.grain[box] - 45 * np.clip(canvas.fibre[box] - 1.1, 0, 1),
            "pancreas",
            box,
            edge_mm=1,
        )
        splenic = np.column_stack(
            [np.add(p[1:-1], (0, 7, 0)), np.add(p[2:], (0, 7, 0)), np.full(len(p) - 2, 4.6), np.full(len(p) - 2, 4.4)]
        )
        canvas.tubes(splenic, self.hu["vessel"], "vessel")

    def _stomach(self, canvas):
        box = canvas.box(*self.stomach["centre"][:2], 0.5 * self.a)
        d = ellipsoid(canvas.x[box], canvas.y[box], canvas.z, **self.stomach) + 3.0 * canvas.soft[box]
        d = np.maximum(d, canvas.cavity[box] + 3)
        canvas.paint(d, 85 + 6 * canvas.grain[box], "stomach", box)
        inner = d + 4.0 + 1.6 * canvas.fibre[box]
        mottle = canvas.waves(self.fluid)[box]
        canvas.paint(inner, self.stomach_hu + 14 * mottle + 10 * canvas.fibre[box], "stomach", box, edge_mm=1)
        canvas.paint(np.maximum(inner, canvas.y[box] - self.stomach_level + 0.5 * canvas.grain[box]), -985, "gas", box)
