"""The audit: pictures that are copies are found and placed, others are not, and nothing links what should stay apart."""

import io
import itertools

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted import texture

from mpox._core import MpoxError
from mpox.audit import audit_version, brute_force, pairs, read_audit, run_audit
from mpox.audit.features import (
    MIRRORED,
    MOST_KEYPOINTS,
    alike,
    describe,
    ensure_features,
    plain_border,
    read_features,
)
from mpox.audit.pages import datasheet
from mpox.audit.result import COLUMNS, GROUP_COLUMNS, OURS, PAIR_COLUMNS, read_overrides
from mpox.audit.retrieval import _fullest, _kept, candidates, codebook
from mpox.audit.verification import Verdict, _polished, compare
from mpox.data.manifest import scan
from mpox.data.phantom import PhantomSpec, generate, read_truths
from mpox.data.pictures import pixel_hash

NO_DECISIONS = pd.DataFrame(columns=COLUMNS)


def through_jpeg(picture: np.ndarray, quality: int = 80) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def framed(picture: np.ndarray, side: int, shade: int) -> np.ndarray:
    return through_jpeg(cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_CONSTANT, value=(shade,) * 3))


def saved(folder, pictures) -> pd.DataFrame:
    """Pictures as files, and what the audit has to know of them."""
    rows = []
    for number, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        picture.save(folder / f"{number}.png")
        rows.append((pixel_hash(picture), str(folder / f"{number}.png")))
    return pd.DataFrame(rows, columns=["pixel_sha256", "path"])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """22 copies, two of each kind, among the pictures of 36 patients."""
    images = generate(tmp_path_factory.mktemp("audit") / "phantom", PhantomSpec(n_patients=36, size=160, copies=22, seed=4))
    return scan(images), read_truths(images)


@pytest.fixture(scope="module")
def audited(phantom):
    return run_audit([phantom[0]], progress=False)


class TestFeatures:
    def test_a_plain_picture_has_features_too_few_to_match_and_raises_nothing(self):
        plain, other = describe(np.full((100, 80, 3), 200, np.uint8)), describe(texture(2))
        assert len(plain.points) == 0
        for verdict in (compare(plain, other), compare(other, plain), compare(plain, plain)):
            assert pairs.score(verdict) < 0.1

    def test_a_regular_pattern_has_a_limited_number_of_features(self):
        rows, columns = np.mgrid[:448, :448]
        dots = (((rows % 8 - 4) ** 2 + (columns % 8 - 4) ** 2 < 5) * 200).astype(np.uint8)
        found = describe(np.repeat(dots[:, :, None], 3, axis=2))
        assert len(found.points) == len(found.poses) == len(found.descriptors) == MOST_KEYPOINTS

    def test_the_cache_is_used_and_a_damaged_file_costs_one_more_run(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
        images = saved(tmp_path, [texture(3)])
        key = images["pixel_sha256"][0]
        assert ensure_features(images, progress=False) == 1 and ensure_features(images, progress=False) == 0
        before = read_features(key)
        next((tmp_path / "cache").rglob(f"{key}.npz")).write_bytes(b"cut off")
        with pytest.raises(MpoxError, match="damaged.*run it again"):
            read_features(key)
        with pytest.raises(MpoxError, match="not in the cache.*run it again"):
            read_features(key)
        assert ensure_features(images, progress=False) == 1
        assert (read_features(key).descriptors == before.descriptors).all()

    def test_a_picture_that_changed_since_it_was_scanned_is_not_taken_for_the_old_one(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
        images = saved(tmp_path, [texture(3)])
        Image.fromarray(texture(4)).save(tmp_path / "0.png")
        with pytest.raises(MpoxError, match="0.png was changed since it was scanned: run it again"):
            ensure_features(images, progress=False)
        assert not list((tmp_path / "cache").rglob("*.npz"))

    def test_the_features_of_the_mirror_image_need_no_second_look(self):
        plain, turned = describe(texture(1)).mirrored, describe(np.ascontiguousarray(texture(1)[:, ::-1]))
        assert (plain.picture == turned.picture).mean() > 0.99
        likeness = plain.unit @ turned.unit.T
        nearest = likeness.argmax(axis=1)
        sure = likeness.max(axis=1) > 0.95
        assert sure.mean() > 0.8
        assert np.median(np.abs(plain.points[sure] - turned.points[nearest[sure]])) < 0.5
        turns = plain.poses[sure, 1] - turned.poses[nearest[sure], 1]
        assert np.median(np.abs((turns + 180) % 360 - 180)) < 3

    def test_the_mirrored_descriptors_are_those_of_the_mirror_image(self):
        plain, turned = describe(texture(1)), describe(np.ascontiguousarray(texture(1)[:, ::-1]))
        width = plain.picture.shape[1] * 2
        where = plain.points * (-1, 1) + (width, 0)
        nearest = np.abs(where[:, None] - turned.points[None]).sum(axis=2)
        same = nearest.min(axis=1) < 1
        assert same.mean() > 0.9
        likeness = (plain.unit[:, MIRRORED][same] * turned.unit[nearest.argmin(axis=1)[same]]).sum(axis=1)
        unturned = (plain.unit[same] * turned.unit[nearest.argmin(axis=1)[same]]).sum(axis=1)
        assert np.median(likeness) > 0.97 > 0.9 > np.median(unturned)


class TestComparison:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_a_crop_is_placed_to_the_pixel(self, mirrored):
        original = texture(5, 400, 320)
        crop = cv2.resize(original[60:260, 90:330], (300, 250), interpolation=cv2.INTER_CUBIC)
        crop = np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop
        verdict = compare(describe(original), describe(through_jpeg(crop)), mirrored=mirrored)
        assert pairs.score(verdict) > 0.95 and verdict.overlap > 0.8
        a, b, c, d, e, f = verdict.transform
        found = np.array([[90, 60], [330, 60], [90, 260]]) @ np.array([[a, b], [d, e]]).T + (c, f)
        expected = np.array([[0, 0], [300, 0], [0, 250]], float)
        expected[:, 0] = 300 - expected[:, 0] if mirrored else expected[:, 0]
        assert np.abs(found - expected).max() < 1.5
        assert pairs.score(compare(describe(original), describe(crop), mirrored=not mirrored)) < 0.1

    def test_a_shared_caption_does_not_make_two_photographs_one(self):
        first, second = texture(6), texture(7)
        for picture in (first, second):
            cv2.rectangle(picture, (0, 150), (240, 190), (255, 255, 255), -1)
            cv2.putText(picture, "SYMPTOMS EXPLAINED", (6, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.68, (200, 0, 0), 2, cv2.LINE_AA)
        verdict = compare(describe(first), describe(second))
        assert verdict.inliers > 20  # matches alone would say yes
        assert pairs.score(verdict) < 0.1

    def test_an_equal_frame_does_not_make_two_photographs_one_and_another_frame_not_one_two(self):
        faint = [(120 + 0.15 * (texture(seed) - 120.0)).clip(0, 255).astype(np.uint8) for seed in range(6, 11)]
        equal, other = ([describe(framed(p, *how)) for p in faint] for how in ((32, 250), (14, 8)))
        for a, b in itertools.combinations(equal, 2):
            assert pairs.score(compare(a, b)) < pairs.WEAK
        for plain, a, b in zip(map(describe, faint), equal, other, strict=True):
            assert min(pairs.score(compare(a, plain)), pairs.score(compare(a, b))) > 0.9
            assert pairs.score(compare(a.mirrored, b, mirrored=True)) > 0.9

    def test_a_border_is_found_on_its_side_behind_a_line_and_under_a_logo(self):
        picture = cv2.copyMakeBorder(texture(6, 400, 400), 60, 0, 0, 0, cv2.BORDER_CONSTANT, value=(250, 250, 250))
        picture[20:22], picture[5:40, 350:390] = 0, (0, 140, 140)
        left, top, right, bottom = plain_border(describe(through_jpeg(picture)).picture)
        assert abs(top - 60 * 224 / 460) <= 2 and (left, right, bottom) == (0, 0, 0)
        assert describe(texture(6)).border is None

    def test_pictures_that_are_nearly_all_border_are_compared_by_what_they_have(self):
        strip = cv2.copyMakeBorder(texture(6, 48, 240), 0, 0, 100, 100, cv2.BORDER_CONSTANT, value=(250, 250, 250))
        narrow = describe(strip)
        assert plain_border(narrow.picture)[0] > 80 and narrow.border is None
        assert pairs.score(compare(narrow, describe(through_jpeg(strip)))) > 0.9

    def test_different_pictures_are_different(self):
        features = [describe(texture(seed)) for seed in range(20, 32)]
        scores = [pairs.score(compare(a, b)) for a, b in itertools.combinations(features, 2)]
        assert max(scores) < 0.1

    @pytest.mark.parametrize(
        ("inliers", "correlation", "agreement", "overlap", "pixels", "low", "high"),
        [
            (150, 0.99, 0.99, 0.5, 30_000, 0.99, 1),
            (150, 0.99, 0.99, 0.03, 30_000, pairs.WEAK, pairs.ACCEPTED),  # a shared corner is not enough
            (8, 0.75, 0.75, 0.9, 3_000, pairs.ACCEPTED, 1),  # more matches are asked of a larger overlap
            (8, 0.75, 0.75, 0.9, 30_000, 0, pairs.ACCEPTED),
            (30, 0.75, 0.75, 0.9, 30_000, pairs.ACCEPTED, 1),
            (4, 0.7, 0.7, 0.9, 500, 0, pairs.ACCEPTED),  # four matches always fit some map nearly
            (0, 0.84, 0.84, 0.95, 46_000, 0, pairs.ACCEPTED),  # where no match speaks, all must agree
            (0, 0.95, 0.95, 0.95, 46_000, pairs.ACCEPTED, 1),
            (0, 0.87, 0.95, 0.95, 46_000, 0, pairs.ACCEPTED),  # the frames agree, what is in them does not
        ],
    )
    def test_the_score_weighs_the_evidence(self, inliers, correlation, agreement, overlap, pixels, low, high):
        verdict = Verdict(200, inliers, correlation, agreement, overlap, pixels, (1.0, 0, 0, 0, 1.0, 0), False)
        assert low < pairs.score(verdict) < high

    def test_a_linked_pair_that_was_compared_mirrored_only_is_compared_directly_too(self):
        rows = [("a", "b", False, 0.9), ("b", "c", False, 0.9), ("a", "c", True, 0.0)]
        verified = pd.DataFrame(rows, columns=["a", "b", "mirrored", "score"])
        asked = pairs._closure(["a", "b", "c", "d"], verified)
        assert set(asked.itertuples(index=False, name=None)) == {("a", "b", True), ("b", "c", True), ("a", "c", False)}

    def test_a_map_that_is_a_little_off_is_polished_wherever_the_part_lies(self):
        original = describe(texture(5, 448, 448)).picture.astype(np.float32)
        for left, top in ((10, 10), (100, 110), (10, 110)):
            part = cv2.resize(original[top : top + 100, left : left + 100], (200, 200), interpolation=cv2.INTER_CUBIC)
            exact = np.array([[0.5, 0, left - 0.25], [0, 0.5, top - 0.25]])
            off = exact + [[0.01, 0.005, 1.5], [-0.005, 0.01, -1.5]]
            corners = np.array([[0, 0, 1], [199, 0, 1], [0, 199, 1], [199, 199, 1]]).T

            def miss(matrix, exact=exact, corners=corners):
                return np.abs((matrix - exact) @ corners).max()

            assert miss(off) > 1.4 and miss(_polished(part, original, off)) < 0.2


class TestRetrieval:
    def test_nothing_to_compare_is_no_candidate(self):
        assert candidates([]).empty and candidates(["one"]).empty

    def test_thumbnails_find_the_panel_of_a_collage_and_the_mirror_image(self):
        pictures = [texture(seed) for seed in range(40, 50)]
        collage = np.concatenate([cv2.resize(pictures[3], (120, 200)), cv2.resize(texture(99), (120, 200))], axis=1)
        tables = [describe(picture).thumbnails for picture in [*pictures, collage, pictures[5][:, ::-1].copy()]]
        found = alike(tables, 1)
        assert (3, 10, False) in found and (11, 5, True) in found

    @pytest.mark.parametrize("mirrored", [False, True])
    def test_a_small_part_much_enlarged_is_found_among_others(self, mirrored, tmp_path, monkeypatch):
        original = texture(60, 480, 400)
        part = cv2.resize(original[40:180, 250:420], (240, 200), interpolation=cv2.INTER_CUBIC)
        part = through_jpeg(np.ascontiguousarray(part[:, ::-1]) if mirrored else part)
        images = saved(tmp_path, [original, part, *(texture(seed, 480, 400) for seed in range(61, 77))])
        ensure_features(images, jobs=1, progress=False)
        monkeypatch.setattr("mpox.audit.retrieval.N_BY_DETAILS", 1)
        monkeypatch.setattr("mpox.audit.retrieval.N_BY_WHOLE", 0)
        found = candidates(images["pixel_sha256"].tolist(), jobs=1, progress=False)
        planted = tuple(sorted(images["pixel_sha256"][:2]))
        assert [row[2] for row in found.itertuples(index=False, name=None) if row[:2] == planted] == [mirrored]

    @pytest.mark.slow
    def test_two_runs_and_any_number_of_processes_find_the_same(self, phantom):
        keys = phantom[0]["pixel_sha256"].tolist()
        ensure_features(phantom[0], progress=False)
        alone = candidates(keys, jobs=1, progress=False)
        kept = _kept(sorted(keys))
        kept.write_text("cut off")
        pd.testing.assert_frame_equal(alone, candidates(keys[::-1], jobs=2, progress=False))
        assert _kept(sorted(keys)[1:]) != kept

    def test_pictures_without_any_detail_are_no_trouble(self, tmp_path):
        images = saved(tmp_path, [np.full((50, 60, 3), shade, np.uint8) for shade in (90, 200)])
        ensure_features(images, jobs=1, progress=False)
        found = pairs.verify(candidates(images["pixel_sha256"].tolist(), jobs=1, progress=False), jobs=1, progress=False)
        assert (found["score"] < pairs.WEAK).all()

    def test_every_planted_copy_is_a_candidate(self, phantom):
        manifest, truths = phantom
        ensure_features(manifest, progress=False)
        found = candidates(manifest["pixel_sha256"].tolist(), progress=False)
        asked = set(zip(found["a"], found["b"], strict=True))
        key = manifest.set_index("image_id")["pixel_sha256"]
        copies = truths[truths["copy_of"].notna()]
        pairs_of = [tuple(sorted((key[a], key[b]))) for a, b in zip(copies["image_id"], copies["copy_of"], strict=True)]
        assert set(pairs_of) <= asked
        assert len(found) < len(manifest) * (len(manifest) - 1) / 2  # of twice as many, as each pair is asked mirrored too

    def test_details_that_agree_add_up_and_one_that_repeats_itself_does_not(self):
        def votes(asked, weights, turns):
            pose = np.array([(0.0, turn) for turn in turns])
            pictures, found = _fullest(np.array([3] * len(asked)), np.array(asked), np.array(weights), pose)
            assert pictures.tolist() == [3]
            return found[0]

        assert votes([5, 6], [100, 100], [10, 10]) == 200
        assert votes([5, 5], [100, 120], [10, 10]) == 120
        assert votes([5, 6], [100, 90], [10, 190]) == 100
        assert votes([5, 6], [100, 100], [355, 5]) == 200
        with pytest.raises(AssertionError):
            votes([5, 4101], [100, 100], [10, 10])

    @pytest.mark.slow
    def test_the_vocabulary_is_the_same_every_time(self, tmp_path, monkeypatch):
        first = codebook(64)
        codebook.cache_clear()
        monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
        second = codebook(64)
        codebook.cache_clear()
        assert np.array_equal(first.centroids, second.centroids) and np.array_equal(first.directions, second.directions)


class TestAudit:
    def test_planted_copies_are_found_and_nothing_else(self, phantom, audited):
        manifest, truths = phantom
        copies = truths[truths["copy_of"].notna()]
        found = {frozenset(pair) for pair in zip(audited.pairs["image_id_a"], audited.pairs["image_id_b"], strict=True)}
        missed = [row.copy_kind for row in copies.itertuples() if frozenset((row.image_id, row.copy_of)) not in found]
        assert len(missed) <= 1, missed
        root = truths.set_index("image_id")["copy_of"].fillna(dict(zip(truths["image_id"], truths["image_id"], strict=True)))
        wrong = [pair for pair in found if len({root[name] for name in pair}) > 1]
        assert not wrong
        assert audited.pairs["mirrored"].any() and (audited.pairs["score"] >= pairs.ACCEPTED).all()
        assert audited.conflicts["kind"].value_counts()["label"] == 1  # the one that was planted
        assert (audited.conflicts["kind"] == "patient").any()
        groups = audited.groups
        assert list(groups.columns) == GROUP_COLUMNS and len(groups) == len(manifest)
        assert (groups.groupby("patient_id")["group_id"].nunique() == 1).all()
        group = groups.set_index("image_id")["group_id"]
        assert all(group[row.image_id_a] == group[row.image_id_b] for row in audited.pairs.itertuples())

    def test_tables_have_the_promised_columns_and_survive_files(self, phantom, audited, tmp_path):
        audited.write(tmp_path)
        table = pd.read_csv(tmp_path / "pairs.csv")
        assert list(table.columns[:7]) == PAIR_COLUMNS
        assert (table["image_id_a"] < table["image_id_b"]).all()
        assert all(len(text.split()) == 6 for text in table["transform"])
        again = read_audit(tmp_path, [phantom[0]])
        pd.testing.assert_frame_equal(again.pairs, audited.pairs, check_dtype=False)
        pd.testing.assert_frame_equal(again.groups, audited.groups, check_dtype=False)
        assert again.summary.equals(audited.summary) or again.summary.to_csv() == audited.summary.to_csv()

    def test_a_second_run_compares_nothing_and_a_new_picture_only_itself(self, phantom, audited, monkeypatch, tmp_path):
        asked = []

        def serial(function, work, **_):
            asked.append(len(work))
            return [function(*item) for item in work]

        monkeypatch.setattr(pairs, "parallel", serial)
        run_audit([phantom[0]], progress=False)
        assert sum(asked) == 0
        new = Image.fromarray(texture(77))
        new.save(tmp_path / "new.png")
        row = phantom[0].iloc[0].to_dict() | {
            "image_id": "Mpox/new.png", "path": str(tmp_path / "new.png"), "sha256": "new", "pixel_sha256": pixel_hash(new),
            "patient_id": pd.NA,
        }  # fmt: skip
        more = pd.concat([phantom[0], pd.DataFrame([row])], ignore_index=True)
        run_audit([more], progress=False)
        assert 0 < sum(asked) < 60

    def test_the_brute_force_finds_no_more(self, phantom, audited):
        manifest = phantom[0].iloc[::4].reset_index(drop=True)
        compared = brute_force([manifest], progress=False)
        assert len(compared) == len(manifest) * (len(manifest) - 1) // 2
        key = manifest.set_index("pixel_sha256")["image_id"]
        everything = compared[compared["score"] >= pairs.ACCEPTED]
        known = {frozenset(pair) for pair in zip(audited.pairs["image_id_a"], audited.pairs["image_id_b"], strict=True)}
        assert {frozenset((key[a], key[b])) for a, b in zip(everything["a"], everything["b"], strict=True)} <= known
        assert len(brute_force([manifest], sample=10, progress=False)) == 10

    def test_exact_copies_and_two_data_sets(self, tmp_path):
        for name, numbers in (("one", (1, 2, 3)), ("two", (3, 4))):
            (tmp_path / name / "Mpox").mkdir(parents=True)
            for number in numbers:
                Image.fromarray(texture(number)).save(tmp_path / name / "Mpox" / f"{number}.png")
        Image.fromarray(texture(1)).save(tmp_path / "one" / "Mpox" / "again.bmp")
        one, two = scan(tmp_path / "one"), scan(tmp_path / "two")
        found = run_audit([one, two], progress=False)
        exact = found.pairs.set_index(["image_id_a", "image_id_b"])["method"].to_dict()
        assert exact == {("Mpox/1.png", "Mpox/again.bmp"): "pixels", ("Mpox/3.png", "Mpox/3.png"): "file"}
        assert found.overlap.to_numpy().tolist() == [[2, 1], [1, 0]]
        ids = found.groups.set_index(["dataset", "image_id"])["group_id"]
        assert ids["one", "Mpox/3.png"] == ids["two", "Mpox/3.png"] == "one/Mpox/3.png"
        with pytest.raises(MpoxError, match="same name"):
            run_audit([one, one])

    def test_nothing_to_audit_is_said(self, tmp_path):
        (tmp_path / "Mpox").mkdir()
        (tmp_path / "Mpox" / "a.png").write_bytes(b"no picture")
        with pytest.raises(MpoxError, match="no usable image"):
            run_audit([scan(tmp_path)])
        Image.fromarray(texture(8)).save(tmp_path / "Mpox" / "b.png")
        alone = run_audit([scan(tmp_path)], progress=False)
        assert alone.pairs.empty and alone.groups["group_id"].tolist() == ["Mpox/b.png"]
        assert alone.rejected["image_id"].tolist() == ["Mpox/a.png"]

    def test_groups_hold_patients_and_copies_together(self, phantom, audited):
        manifest, truths = phantom
        groups = audited.groups
        assert list(groups.columns) == GROUP_COLUMNS and len(groups) == len(manifest)
        group = groups.set_index("image_id")["group_id"]
        assert (groups.groupby("patient_id")["group_id"].nunique() == 1).all()
        for row in audited.pairs.itertuples():
            assert group[row.image_id_a] == group[row.image_id_b]
        # no more than that: groups are the components over patients and true copies
        truly = truths.assign(root=truths["copy_of"].fillna(truths["image_id"]))
        assert group.nunique() >= truly["patient_id"].nunique() - truths["copy_of"].notna().sum()


class TestDecisions:
    def test_a_rejected_pair_links_nothing_and_is_kept(self, phantom, audited):
        row = audited.pairs[audited.pairs["method"] == "geometric"].iloc[0]
        decision = pd.DataFrame([[*row[PAIR_COLUMNS[:4]], "reject", "seen"]], columns=COLUMNS)
        found = run_audit([phantom[0]], overrides=decision, progress=False)
        assert len(found.pairs) == len(audited.pairs) - 1
        assert (found.weak["decision"] == "rejected").sum() == 1
        assert found.groups["group_id"].nunique() >= audited.groups["group_id"].nunique()

    def test_a_decision_holds_for_every_image_with_these_pixels_and_for_any_names(self, tmp_path):
        for name in ("pics", "pics-2"):
            (tmp_path / name / "Mpox").mkdir(parents=True)
            Image.fromarray(texture(1)).save(tmp_path / name / "Mpox" / "1.png")
        Image.fromarray(texture(1)[20:180, 30:210]).save(tmp_path / "pics-2" / "Mpox" / "crop.png")
        manifests = [scan(tmp_path / name) for name in ("pics", "pics-2")]
        assert run_audit(manifests, overrides=NO_DECISIONS, progress=False).groups["group_id"].nunique() == 1
        path = tmp_path / "overrides.csv"
        path.write_text(",".join(COLUMNS) + "\npics-2,Mpox/crop.png,pics,Mpox/1.png,reject,seen\n")
        found = run_audit(manifests, overrides=read_overrides(path), progress=False)
        assert found.groups["group_id"].nunique() == 2 and len(found.pairs) == 1
        assert found.weak["decision"].tolist() == ["rejected", "rejected"]
        path.write_text(",".join(COLUMNS) + "\npics-2,Mpox/crop.png,pics,Mpox/7.png,reject,seen\n")
        with pytest.raises(MpoxError, match="images that are not there, pics: Mpox/7.png"):
            run_audit(manifests, overrides=read_overrides(path), progress=False)
        two = "\npics-2,Mpox\\crop.png,pics, ./Mpox/1.png,reject,seen\npics,Mpox/1.png,pics-2 ,Mpox/crop.png,confirm,seen\n"
        path.write_text(",".join(COLUMNS) + two)
        with pytest.raises(MpoxError, match="decide twice, and differently, on pics-2/Mpox/crop.png and pics/Mpox/1.png"):
            read_overrides(path)
        path.write_text(",".join(COLUMNS) + "\npics,Mpox/1.png,pics,Mpox/1.png,reject,seen\n")
        with pytest.raises(MpoxError, match="with itself"):
            read_overrides(path)

    def test_a_confirmed_pair_links_what_the_machine_did_not(self, phantom, audited):
        apart = audited.groups.drop_duplicates("group_id")["image_id"].tolist()[:2]
        name = phantom[0]["source"].iloc[0]
        decision = pd.DataFrame([[name, apart[0], name, apart[1], "confirm", "seen"]], columns=COLUMNS)
        found = run_audit([phantom[0]], overrides=decision, progress=False)
        group = found.groups.set_index("image_id")["group_id"]
        assert group[apart[0]] == group[apart[1]]
        assert found.pairs[found.pairs["method"] == "override"]["reason"].tolist() == ["seen"]

    def test_one_person_on_two_photographs_is_kept_together_and_is_no_copy(self, tmp_path):
        folder, decisions = tmp_path / "people", tmp_path / "overrides.csv"
        pictures = {"Mpox/p1_1": texture(1), "Mpox/p2_1": texture(2), "Measles/x_1": texture(3), "Mpox/y_1": texture(4)}
        pictures["Mpox/z_1"] = texture(4)[20:180, 30:210]  # which the machine takes for a copy
        for name, pixels in pictures.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{name}.png")
        manifest = scan(folder, patient_pattern=r"(?P<patient>p\d)_")
        asked = [("Mpox/p2_1", "Mpox/p1_1"), ("Mpox/p2_1", "Measles/x_1"), ("Mpox/y_1", "Mpox/z_1")]
        rows = [f"people,{a}.png,people,{b}.png, Same  PERSON ,seen" for a, b in asked]
        decisions.write_text("\n".join([",".join(COLUMNS), *rows]))
        before = run_audit([manifest], overrides=NO_DECISIONS, progress=False)
        assert len(before.pairs) == 1 and before.groups["group_id"].nunique() == 4
        found = run_audit([manifest], overrides=read_overrides(decisions), progress=False)
        assert found.pairs.empty and found.overlap.to_numpy().sum() == 0 and len(found.persons) == 3
        first, *others = found.groups.groupby("group_id")["image_id"].apply(list)
        assert first == ["Measles/x_1.png", "Mpox/p1_1.png", "Mpox/p2_1.png"] and others == [["Mpox/y_1.png", "Mpox/z_1.png"]]
        conflicts = found.conflicts  # two patients, but no photograph under two labels
        assert conflicts[["kind", "patient_id_a", "patient_id_b"]].to_numpy().tolist() == [["patient", "p1", "p2"]]
        again = read_audit(found.write(tmp_path / "audit"), [manifest])
        assert again.persons["reason"].tolist() == ["seen"] * 3 and again.groups.equals(found.groups)
        assert "one photograph or person under two patients: 1. Pairs of one person on two photographs, as people saw: 3." in (
            datasheet(found, "people")
        )

    def test_files_of_decisions(self, tmp_path, phantom, audited):
        path = tmp_path / "overrides.csv"
        path.write_text("dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\nz,2.png,a,1.png,reject,turned round\n")
        last = read_overrides(path).iloc[-1]
        assert (last["dataset_a"], last["image_id_a"], last["dataset_b"]) == ("a", "1.png", "z")
        assert len(read_overrides()) == len(pd.read_csv(OURS))
        run_audit([phantom[0]], overrides=read_overrides(path), progress=False)  # decisions on other data sets are passed over
        table = pd.read_csv(path)
        for decision, reason in ((" Reject", "turned round"), ("REJECT ", "NA")):  # as Excel and R save it
            text = table.assign(decision=decision, reason=reason).to_csv(index=False, sep=";", lineterminator="\r\n")
            path.write_text("\ufeff" + text + ";;;;;\r\n", encoding="utf-8")
            again = read_overrides(path).iloc[-1]
            assert again["decision"] == "reject" and again["reason"] == ("" if reason == "NA" else reason)
        path.write_text(table.to_csv(index=False))
        undecided = path.read_text().replace("reject", "no")
        for text, message in (
            ("dataset_a\n", "needs the columns dataset_a, .* and reason; it has dataset_a"),
            (undecided, "the decision 'no': write confirm, reject or same person"),
        ):
            path.write_text(text)
            with pytest.raises(MpoxError, match=message):
                read_overrides(path)
        with pytest.raises(MpoxError, match="cannot be read"):
            read_overrides(tmp_path / "missing.csv")

    def test_a_study_takes_the_decisions_that_the_environment_names(self, tmp_path, monkeypatch):
        path = tmp_path / "overrides.csv"
        path.write_text("dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\na,1.png,z,2.png,reject,seen\n")
        before = audit_version()
        monkeypatch.setenv("MPOX_OVERRIDES", str(path))
        assert read_overrides().iloc[-1]["reason"] == "seen" and audit_version() != before
        monkeypatch.setenv("MPOX_OVERRIDES", str(tmp_path / "missing.csv"))
        with pytest.raises(MpoxError, match="cannot be read"):
            read_overrides()

    def test_the_version_follows_our_decisions(self, monkeypatch):
        before = audit_version()
        monkeypatch.setattr("mpox.audit.read_overrides", lambda: NO_DECISIONS.assign(x=1))
        assert audit_version() != before
