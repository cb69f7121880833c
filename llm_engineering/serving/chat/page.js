(() => {
  // Gradio sets the system's theme when it starts, after this; a reader's own choice wins over it.
  let chosen = localStorage.getItem("twin-theme");
  const apply = () => {
    if (chosen && document.body.classList.contains("dark") !== (chosen === "dark"))
      document.body.classList.toggle("dark", chosen === "dark");
  };
  window.twinToggleTheme = () => {
    chosen = document.body.classList.contains("dark") ? "light" : "dark";
    localStorage.setItem("twin-theme", chosen);
    apply();
  };
  const whenThere = (start) => // Gradio may add this script after the document was read
    document.body ? start() : document.addEventListener("DOMContentLoaded", start);
  whenThere(() => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
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
  whenThere(() =>
    new MutationObserver(follow).observe(document.body, { childList: true, subtree: true })
  );
})();
