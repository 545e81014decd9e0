// Species of a model: chosen from the periodic table, or beads with names and masses.
import { element } from "/static/studio.js";

const ROWS = [
  ["H", ...Array(16).fill(""), "He"],
  ["Li", "Be", ...Array(10).fill(""), "B", "C", "N", "O", "F", "Ne"],
  ["Na", "Mg", ...Array(10).fill(""), "Al", "Si", "P", "S", "Cl", "Ar"],
  "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr".split(" "),
  "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe".split(" "),
  "Cs Ba La Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn".split(" "),
  "Fr Ra Ac Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og".split(" "),
  ["", "", "", ..."Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu".split(" "), ""],
  ["", "", "", ..."Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split(" "), ""],
];

/**
 * A picker in `root`.
 * @param options {species: ["Si", "bead:W"], masses: {W: 18}, allowed: [] for any, most}
 * @param changed called with (species, masses)
 */
export function picker(root, options, changed) {
  let { species, masses } = { species: [...options.species], masses: { ...options.masses } };
  const allowed = options.allowed ?? [];
  const may = (name) => !allowed.length || allowed.includes(name);
  const chips = element("ul", { class: "chips", "aria-label": "Chosen species, in the order of types" });
  const table = element("div", { class: "periodic", role: "group", "aria-label": "Periodic table: arrows move, Enter chooses" });
  const cells = [];

  function tell() {
    draw();
    changed([...species], { ...masses });
  }
  function toggle(name) {
    if (species.includes(name)) species = species.filter((one) => one !== name);
    else if (species.length < (options.most ?? 8)) species.push(name);
    if (name.startsWith("bead:") && !species.includes(name)) delete masses[name.slice(5)];
    tell();
  }
  function draw() {
    chips.replaceChildren(...species.map((name) => {
      const out = element("button", { type: "button", "aria-label": `Take ${name} out` }, "×");
      out.addEventListener("click", () => { toggle(name); (chips.querySelector("button") ?? cells[0].button).focus(); });
      const mass = name.startsWith("bead:") ? ` ${masses[name.slice(5)] ?? "?"} g/mol` : "";
      return element("li", {}, name + mass, out);
    }), ...(species.length ? [] : [element("li", { class: "quiet" }, "none yet")]));
    for (const { name, button } of cells) button.setAttribute("aria-pressed", String(species.includes(name)));
  }

  ROWS.forEach((row, y) => row.forEach((name, x) => {
    if (!name) return;
    const button = element("button", { type: "button", tabindex: cells.length ? "-1" : "0", "aria-pressed": "false" }, name);
    button.style.gridRow = String(y > 6 ? y + 2 : y + 1);
    button.style.gridColumn = String(x + 1);
    button.disabled = !may(name);
    button.addEventListener("click", () => toggle(name));
    cells.push({ name, x, y, button });
    table.append(button);
  }));
  const first = cells.find((one) => species.includes(one.name)) ?? cells.find((one) => !one.button.disabled);
  if (first) { cells[0].button.tabIndex = -1; first.button.tabIndex = 0; }
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const at = cells.find((one) => one.button === document.activeElement);
    if (!step || !at) return;
    event.preventDefault();
    let { x, y } = at;
    for (let tries = 0; tries < 20; tries++) {
      x += step[0]; y += step[1];
      const next = cells.find((one) => one.x === x && one.y === y && !one.button.disabled);
      if (next) { at.button.tabIndex = -1; next.button.tabIndex = 0; next.button.focus(); return; }
      if (x < 0 || x > 17 || y < 0 || y > 8) return;
    }
  });

  const name = element("input", { id: "bead-name", size: "6", maxlength: "12" });
  const mass = element("input", { id: "bead-mass", size: "8", inputmode: "decimal", class: "number" });
  const add = element("button", { type: "button" }, "Add bead");
  const wrong = element("p", { class: "error", role: "alert" });
  add.addEventListener("click", () => {
    const own = name.value.trim(), grams = Number(mass.value);
    if (!/^[A-Za-z][A-Za-z0-9]*$/.test(own)) { wrong.textContent = "A bead's name is letters and digits after a letter."; name.focus(); return; }
    if (!(grams > 0)) { wrong.textContent = "A bead needs a mass above 0, in g/mol."; mass.focus(); return; }
    wrong.textContent = "";
    masses[own] = grams;
    if (!species.includes(`bead:${own}`)) species.push(`bead:${own}`);
    name.value = mass.value = "";
    tell();
  });
  const beads = element("div", { class: "row" }, element("label", { for: "bead-name" }, "Bead"), name,
    element("label", { for: "bead-mass" }, "of mass, g/mol"), mass, add);
  root.replaceChildren(chips, table, beads, wrong);
  draw();
}
