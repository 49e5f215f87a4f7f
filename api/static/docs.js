// Shows the OpenAPI document.
const api = document.getElementById("api");
SwaggerUIBundle({
  domNode: api,
  url: api.dataset.document,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
});
