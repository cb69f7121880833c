(() => {
  const stored = localStorage.getItem("twin-theme");
  const apply = (dark) => document.body && document.body.classList.toggle("dark", dark);
  const wanted = () => (stored ? stored === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  document.addEventListener("DOMContentLoaded", () => apply(wanted()));
  window.twinToggleTheme = () => {
    const dark = !document.body.classList.contains("dark");
    apply(dark);
    localStorage.setItem("twin-theme", dark ? "dark" : "light");
  };
  document.addEventListener("click", (event) => {
    const cite = event.target.closest && event.target.closest("a.cite");
    if (!cite) return;
    event.preventDefault();
    const source = document.getElementById(cite.getAttribute("href").slice(1));
    if (!source) return;
    const details = source.querySelector("details");
    if (details) details.open = true;
    (source.querySelector("mark") || source).scrollIntoView({ block: "center" });
    source.classList.remove("shown");
    void source.offsetWidth;
    source.classList.add("shown");
  });
  let asked = 0;
  let commented = false;
  const follow = () => {
    const now = document.querySelectorAll(".turn.asked").length;
    if (now > asked) document.querySelector("#now .turn.asked")?.scrollIntoView({ block: "start", behavior: "smooth" });
    asked = now;
    const commenting = Boolean(document.querySelector("#comment textarea"));
    if (commenting && !commented) document.querySelector("#comment").scrollIntoView({ block: "center", behavior: "smooth" });
    commented = commenting;
  };
  document.addEventListener("DOMContentLoaded", () =>
    new MutationObserver(follow).observe(document.body, { childList: true, subtree: true })
  );
})();
