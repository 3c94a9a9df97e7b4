/* Browsers start no workers from files. There, what wants one (search) gets a hidden frame that does the same. */
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.onload = () => {
        const inside = frame.contentWindow;
        if (this.inside) return;
        this.inside = inside;
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = inside.document.createElement("script");
        script.src = new URL(url, location.href);
        script.onload = () => {
          this.waiting.forEach((data) => this.hand(data));
          this.waiting = null;
        };
        inside.document.body.append(script);
      };
      frame.srcdoc = "<!doctype html><body></body>";
      document.documentElement.append(frame);
    }
    hand(data) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.hand(data);
    }
  };
}
